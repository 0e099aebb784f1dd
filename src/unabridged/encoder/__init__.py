"""Second floor: the encoder that somebody already has, made to read whole documents.

The only folder that imports transformers or sentence_transformers.
"""

from __future__ import annotations

from unabridged.encoder.long_encoder import LongEncoder
from unabridged.encoder.reading import (
    Chunks,
    Full,
    Reader,
    ReaderName,
    Truncate,
    Windows,
    make_reader,
)

__all__ = [
    "Chunks",
    "Full",
    "LongEncoder",
    "Reader",
    "ReaderName",
    "Truncate",
    "Windows",
    "make_reader",
]
