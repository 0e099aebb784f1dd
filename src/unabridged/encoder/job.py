"""One document under way: what is read of it at once, and which passages come out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unabridged._reading import Coverage, Reading, Span
from unabridged.encoder.pooling import Head
from unabridged.encoder.reading import cut
from unabridged.encoder.tokens import Tokens

__all__ = ["Job", "Stretch", "recut"]


@dataclass
class Job:
    """One document under way: blocks, which are read, and the passages in each, which are pooled.

    A passage is a block of its own, special tokens included, unless `late` says how many tokens of
    a longer block make one.
    """

    tokens: Tokens
    characters: int
    blocks: list[Span]
    late: int | None
    prefix: list[int]
    suffix: list[int]
    vectors: dict[int, NDArray[np.float32]] = field(default_factory=dict)

    @property
    def done(self) -> bool:
        """Whether every block has its vectors."""
        return len(self.vectors) == len(self.blocks)

    def rows(self, index: int) -> int:
        """Rows of a block, special and prompt tokens included."""
        start, end = self.blocks[index]
        return len(self.prefix) + end - start + len(self.suffix)

    def ids(self, index: int) -> list[int]:
        """Token ids of a block's rows."""
        start, end = self.blocks[index]
        return [*self.prefix, *self.tokens.ids[start:end].tolist(), *self.suffix]

    def stretches(self, limit: int) -> Iterator[Stretch]:
        """Neighbouring passages, cut as soon as they have `limit` rows."""
        first, rows = 0, 0
        for index in range(len(self.blocks)):
            rows += self.rows(index)
            if rows >= limit or index == len(self.blocks) - 1:
                yield Stretch(self, first, index + 1, rows)
                first, rows = index + 1, 0

    def passages(self) -> list[Span]:
        """Token spans of all passages, block after block."""
        return self.blocks if self.late is None else recut(self.blocks, self.late)

    def pool(self, states: Tensor, head: Head) -> NDArray[np.float32]:
        """Vectors of late chunks, from the states (T, D) of their block."""
        own = states[len(self.prefix) : len(states) - len(self.suffix)]
        spans = cut(len(own), self.late or len(own))
        return torch.cat([head(own[None, a:b], slice(0)) for a, b in spans]).numpy()

    def reading(self) -> Reading:
        """What was read, once all is done."""
        spans = np.array(self.passages(), np.int64).reshape(-1, 2)
        read = int(spans[:, 1].max(initial=0))
        vectors = [self.vectors[index] for index in range(len(self.blocks))]
        return Reading(
            token_ids=self.tokens.ids,
            token_chars=self.tokens.chars,
            vectors=np.concatenate(vectors) if vectors else np.empty((0, 0), np.float32),
            passage_tokens=spans,
            passage_chars=_char_spans(self.tokens.chars, spans),
            coverage=Coverage(
                tokens_read=read,
                tokens_total=len(self.tokens),
                unread=self._unread(read),
                unknown=self.tokens.unknown,
            ),
        )

    def _unread(self, read: int) -> tuple[Span, ...]:
        if read == len(self.tokens):
            return ()
        start = int(self.tokens.chars[:read, 1].max(initial=0))
        return ((start, self.characters),)


@dataclass(frozen=True)
class Stretch:
    """Passages `first` to `last` (exclusive) of one document."""

    job: Job
    first: int
    last: int
    rows: int


def recut(spans: list[Span], size: int) -> list[Span]:
    """Spans of at most `size` tokens, in order; what fits, an empty span too, stays as it is."""
    return [
        (a + start, a + end)
        for a, b in spans
        for start, end in (cut(b - a, size) if b - a > size else [(0, b - a)])
    ]


def _char_spans(chars: NDArray[np.int64], spans: NDArray[np.int64]) -> NDArray[np.int64]:
    """Character span of every token span; empty ones stand at 0."""
    found = np.zeros_like(spans)
    for row, (start, end) in enumerate(spans):
        if end > start:
            found[row] = chars[start:end, 0].min(), chars[start:end, 1].max()
    return found
