"""Second floor: the encoder that somebody already has, made to read whole documents.

The only folder that imports transformers or sentence_transformers.
"""

from __future__ import annotations

from unabridged.encoder.long_encoder import LongEncoder
from unabridged.encoder.reading import Chunks, Reader, Truncate, Windows

__all__ = ["Chunks", "LongEncoder", "Reader", "Truncate", "Windows"]
