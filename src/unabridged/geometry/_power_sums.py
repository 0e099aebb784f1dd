"""Power sums of rows about any origin, in blocks: the inner loop of `moments`.

Axis legend: N rows, D columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["PowerSums", "near_mean", "sum_blocks"]

BLOCK_BYTES = 6 << 20  # one float64 block and its products stay in the second-level cache
SAMPLE = 1024  # rows that place the origin
PANEL = 128  # width of the column panels by which only the upper triangle is computed


@dataclass(slots=True)
class PowerSums:
    """Power sums of the rows c = x - origin: what blocks add to, before the mean is known."""

    weight: float
    first: NDArray[np.float64]  # Σ w c
    second: NDArray[np.float64]  # Σ w c cᵀ
    radial3: NDArray[np.float64]  # Σ w |c|² c
    radial4: float  # Σ w |c|⁴

    def seen_from(self, shift: NDArray[np.float64]) -> PowerSums:
        """The sums of c - shift, by expanding every product."""
        square, along = float(shift @ shift), float(self.first @ shift)
        trace, pulled = float(np.trace(self.second)), self.second @ shift
        cross = np.outer(self.first, shift)
        return PowerSums(
            self.weight,
            self.first - self.weight * shift,
            self.second - cross - cross.T + self.weight * np.outer(shift, shift),
            self.radial3
            - 2 * pulled
            + square * self.first
            - (trace - 2 * along + self.weight * square) * shift,
            self.radial4
            + 4 * float(shift @ pulled)
            - 4 * float(self.radial3 @ shift)
            + 2 * square * trace
            - 4 * square * along
            + self.weight * square**2,
        )


def sum_blocks(rows: torch.Tensor, weights: torch.Tensor | None, origin: torch.Tensor) -> PowerSums:
    """Power sums of rows - origin, in blocks of float64 that stay in the cache."""
    d = rows.shape[1]
    second = torch.zeros(d, d, dtype=torch.float64)
    first, radial3 = torch.zeros(2, d, dtype=torch.float64)
    weight = radial4 = 0.0
    block = min(len(rows), max(64, BLOCK_BYTES // (8 * d)))
    buffer = torch.empty(block, d, dtype=torch.float64)
    ones = torch.ones(block, dtype=torch.float64)
    for start in range(0, len(rows), block):
        c = buffer[: min(block, len(rows) - start)]
        c.copy_(rows[start : start + len(c)]).sub_(origin)
        w = ones[: len(c)] if weights is None else weights[start : start + len(c)]
        squares = torch.linalg.vector_norm(c, dim=1).square_()
        weight += float(w.sum())
        first.addmv_(c.T, w)
        radial3.addmv_(c.T, w * squares)
        radial4 += float(w @ squares.square_())
        if weights is not None:
            c.mul_(w.sqrt()[:, None])
        for panel in range(0, d, PANEL):
            left = c[:, panel : panel + PANEL]
            second[panel : panel + PANEL, panel:].addmm_(left.T, c[:, panel:])
    upper = second.triu()
    full = upper + upper.triu(1).T
    return PowerSums(weight, first.numpy(), full.numpy(), radial3.numpy(), radial4)


def near_mean(rows: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
    """A point near the mean: the mean of about 1,024 rows taken evenly from the whole.

    The sums are taken from here and moved to the true mean at the end. That costs at most a factor
    N / 1,024 in relative rounding (the sampled rows themselves spread the data by that share of
    the squared distance), usually nothing.
    """
    step = -(-len(rows) // SAMPLE)
    sample = rows[::step].to(torch.float64)
    if weights is None:
        return sample.mean(dim=0)
    w = weights[::step]
    total = float(w.sum())
    return w @ sample / total if total > 0 else sample.mean(dim=0)
