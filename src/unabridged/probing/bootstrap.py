"""Paired bootstrap over documents: how sure a share of found queries is, and a difference of two.

Queries of one document stand or fall together, so documents are drawn, not queries; and every kind
of query counts the same, however many of it there are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["RESAMPLES", "Estimate", "Resampling"]

RESAMPLES = 4000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and where it would lie with other documents of the same sort.

    Attributes:
        value: as measured.
        low: lower end of the interval.
        high: upper end.
    """

    value: float
    low: float
    high: float


class Resampling:
    """The same draws of documents for every system, so that their differences are paired.

    Args:
        documents: (Q,) which document each query belongs to.
        kinds: (Q,) kind of each query; the mean over kinds is what is estimated.
        seed: of the draws.

    >>> draws = Resampling(np.array([0, 1, 2, 3]), np.zeros(4, int), seed=0)
    >>> draws.estimate(np.array([1.0, 1.0, 1.0, 1.0]))
    Estimate(value=1.0, low=1.0, high=1.0)
    """

    def __init__(
        self, documents: NDArray[np.int64], kinds: NDArray[np.int64], *, seed: int
    ) -> None:
        self._documents, self._kinds = documents, kinds
        self._shape = (int(documents.max(initial=-1)) + 1, int(kinds.max(initial=-1)) + 1)
        count = self._shape[0]
        rng = np.random.default_rng(seed)
        drawn = rng.multinomial(count, np.full(count, 1 / max(count, 1)), size=RESAMPLES)
        self._draws = drawn.astype(np.float64)  # (R, N): how often each document was drawn
        self._sizes = self._sums(np.ones(len(documents)))

    def mean(self, values: NDArray[np.float64]) -> float:
        """Mean over kinds of the mean over queries; kinds without a query do not count."""
        return float(_mean_of_kinds(self._sums(values).sum(0), self._sizes.sum(0)))

    def estimate(self, values: NDArray[np.float64], *, confidence: float = 0.95) -> Estimate:
        """The mean of per-query values (Q,), with its interval.

        The difference of two systems is the estimate of the differences of their values.
        """
        with np.errstate(invalid="ignore"):
            means = _mean_of_kinds(self._draws @ self._sums(values), self._draws @ self._sizes)
        tail = (1 - confidence) / 2
        low, high = np.nanquantile(means, [tail, 1 - tail])
        return Estimate(self.mean(values), float(low), float(high))

    def _sums(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        table = np.zeros(self._shape)  # (N, K)
        np.add.at(table, (self._documents, self._kinds), values)
        return table


def _mean_of_kinds(sums: NDArray[np.float64], sizes: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):
        return np.asarray(np.nanmean(np.where(sizes > 0, sums / sizes, np.nan), axis=-1))
