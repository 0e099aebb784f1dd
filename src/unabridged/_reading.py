"""What a reader hands on: passages of a document, their places in it, and what was read at all.

The encoder makes a `Reading`; a collection stores it. Neither imports the other, so the type that
they share stands here, on the ground floor.

Axis legend, used in every file: T tokens of a document, P passages, D width of a vector.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Coverage", "Passage", "Reading", "Span"]

Span = tuple[int, int]
"""A half-open interval [start, end) of characters or tokens."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of a document was read.

    Attributes:
        tokens_read: tokens that reached the encoder, special tokens not counted.
        tokens_total: tokens the document has.
        unread: character spans that no vector has seen, in order.
        unknown: character spans that the tokenizer could only show as its unknown token.

    >>> Coverage(tokens_read=256, tokens_total=1024, unread=((1100, 4400),)).share
    0.25
    """

    tokens_read: int
    tokens_total: int
    unread: tuple[Span, ...] = ()
    unknown: tuple[Span, ...] = ()

    @property
    def share(self) -> float:
        """Tokens read over tokens there; 1.0 for an empty document, of which nothing is missing."""
        return self.tokens_read / self.tokens_total if self.tokens_total else 1.0


@dataclass(frozen=True, slots=True)
class Passage:
    """One pooled stretch of a document.

    Attributes:
        vector: (D,) float32, the pooled token states as the model gives them (not whitened).
        tokens: token span within the document, special tokens not counted.
        chars: character span, such that `text[chars[0]:chars[1]]` is exactly the passage.
    """

    vector: NDArray[np.float32]
    tokens: Span
    chars: Span


@dataclass(frozen=True, slots=True)
class Reading:
    """A document as an encoder read it.

    Attributes:
        token_ids: (T,) int32, without special tokens.
        token_chars: (T, 2) int64, the character span of every token in the original string.
        vectors: (P, D) float32, one raw vector a passage.
        passage_tokens: (P, 2) int64, token spans.
        passage_chars: (P, 2) int64, character spans.
        coverage: what was read and what was not.
    """

    token_ids: NDArray[np.int32]
    token_chars: NDArray[np.int64]
    vectors: NDArray[np.float32]
    passage_tokens: NDArray[np.int64]
    passage_chars: NDArray[np.int64]
    coverage: Coverage

    def __len__(self) -> int:
        """Number of passages."""
        return len(self.vectors)

    def __getitem__(self, index: int) -> Passage:
        """Passage number `index`; with `__len__` this makes a reading a sequence of passages."""
        start, end = self.passage_tokens[index]
        first, last = self.passage_chars[index]
        return Passage(self.vectors[index], (int(start), int(end)), (int(first), int(last)))

    @property
    def passages(self) -> list[Passage]:
        """All passages, in order."""
        return [self[index] for index in range(len(self))]

    @property
    def vector(self) -> NDArray[np.float32]:
        """(D,) one vector for the whole document: the mean of its passages' vectors."""
        return np.asarray(self.vectors.mean(axis=0), dtype=np.float32)
