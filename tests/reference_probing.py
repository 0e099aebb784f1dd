"""Slow and obvious: recall by loops, a bootstrap that copies its documents, rounds by hand."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np

from reference_collection import WordEmbedder, cosine
from unabridged.probing import Contestant, Record, Task


def document_score(query: np.ndarray, passages: np.ndarray, how: str) -> float:
    if how == "one vector":
        return cosine(query, sum(passages) / len(passages))
    best = sorted((cosine(query, passage) for passage in passages), reverse=True)
    return best[0] if how == "best passage" else sum(best[:3]) / len(best[:3])


def found(record: Record, task: Task, how: str) -> list[int]:
    hits = []
    for vector, query in zip(record.queries, task.queries, strict=True):
        scores = [document_score(vector, rows, how) for rows in record.vectors]
        own = scores.pop(query.document)
        hits.append(int(all(own > score for score in scores)))
    return hits


def mean_of_kinds(values: list[float], kinds: list[int]) -> float:
    of_kind = [[v for v, k in zip(values, kinds, strict=True) if k == kind] for kind in set(kinds)]
    return sum(sum(own) / len(own) for own in of_kind) / len(of_kind)


def bootstrap_means(
    values: list[float], documents: list[int], kinds: list[int], *, draws: int, seed: int
) -> list[float]:
    rng = np.random.default_rng(seed)
    means = []
    for _ in range(draws):
        drawn = rng.integers(max(documents) + 1, size=max(documents) + 1)
        rows = [row for d in drawn for row, own in enumerate(documents) if own == d]
        means.append(mean_of_kinds([values[r] for r in rows], [kinds[r] for r in rows]))
    return means


class Reader(WordEmbedder):
    """A bag of words that reads the first `words` words only, and can be interrupted."""

    def __init__(self, words: int = 10**6, stop_after: int | None = None) -> None:
        super().__init__(dimension=61, passage=23, words=str(words))
        self._words, self._left = words, stop_after

    def read_many(self, texts, *, on_tokens=None):
        for text in texts:
            if self._left is not None:
                self._left -= 1
                if self._left < 0:
                    raise KeyboardInterrupt
            yield from super().read_many(
                [" ".join(text.split()[: self._words])], on_tokens=on_tokens
            )


def contestant(name: str, role: str = "choice", **settings) -> Contestant:
    """Reads bags of words; `contestant.open` counts nothing and leaves nothing behind."""
    reader = Reader(**settings)

    @contextmanager
    def opened():
        yield reader

    return Contestant(name, opened, role)
