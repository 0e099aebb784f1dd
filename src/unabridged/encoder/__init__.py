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
from unabridged.encoder.token_scores import TokenScores, can_score_tokens, token_scores

__all__ = [
    "Chunks",
    "Full",
    "LongEncoder",
    "Reader",
    "ReaderName",
    "TokenScores",
    "Truncate",
    "Windows",
    "can_score_tokens",
    "make_reader",
    "token_scores",
]
