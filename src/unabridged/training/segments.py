"""Stretches of documents of mixed lengths, so that every length up to the longest is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from unabridged.training.corpus import Batch, Corpus
from unabridged.training.seeds import seed_of

__all__ = ["Segments", "split_documents"]


@dataclass(frozen=True)
class Segments:
    """One stretch of one document a batch.

    A document is drawn in proportion to its tokens, up to twice the longest stretch; the length is
    drawn evenly on a logarithmic scale, and the place evenly.

    Attributes:
        corpus: where tokens are.
        documents: which of them may be drawn.
        shortest: tokens of a stretch, special ones not counted; shorter documents come whole.
        longest: tokens of a stretch at most, special ones not counted.
        seed: of the draws.
    """

    corpus: Corpus
    documents: Sequence[int]
    shortest: int
    longest: int
    seed: int = 0

    def __call__(self, number: int) -> Batch:
        """Batch number `number`: one block, special tokens around it."""
        return self.at(*self.drawn(number))

    def drawn(self, number: int) -> tuple[int, int, int]:
        """Document, first token and number of tokens of batch number `number`."""
        rng = np.random.default_rng(seed_of(self.seed, number))
        document = self.documents[int(rng.choice(len(self.documents), p=self._shares))]
        tokens = int(self.corpus.lengths()[document])
        low, high = np.log(min(self.shortest, self.longest)), np.log(self.longest)
        length = min(tokens, round(float(np.exp(rng.uniform(low, high)))))
        first = int(rng.integers(tokens - length + 1))
        return document, first, length

    def at(self, document: int, first: int, length: int) -> Batch:
        """One chosen stretch, or as much of it as the document has."""
        start = int(self.corpus.ends[document]) + first
        end = min(start + length, int(self.corpus.ends[document + 1]))
        return Batch.of([self.corpus.block(((start, end),))])

    @cached_property
    def _shares(self) -> NDArray[np.float64]:
        tokens = self.corpus.lengths()[list(self.documents)]
        weights = np.minimum(tokens, 2 * self.longest).astype(np.float64)
        return np.asarray(weights / weights.sum())


def split_documents(
    documents: Sequence[int], *, share: float, most: int, seed: int
) -> tuple[list[int], list[int]]:
    """Documents to train on, and documents to look at: at least one, at most `most`.

    >>> split_documents(range(10), share=0.2, most=5, seed=0)
    ([0, 1, 3, 5, 6, 7, 8, 9], [2, 4])
    """
    count = min(most, max(1, round(share * len(documents))))
    order = np.random.default_rng(seed_of(seed)).permutation(len(documents))
    held_out = {documents[i] for i in order[:count]}
    return [d for d in documents if d not in held_out], sorted(held_out)
