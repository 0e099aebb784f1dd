"""The three ways to hold a covariance: full, diagonal, low rank plus diagonal.

Each knows its dense matrix twice: as a differentiable tensor, and as head + tail, the float64
matrix and what rounding it to float64 has lost. Axis legend: ... batch, d dimensions, r rank.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from unabridged.geometry._exact_products import product, two_sum

__all__ = ["Covariance", "Diagonal", "Full", "LowRank", "broadcast"]

Transform = Callable[[Tensor], Tensor]


def broadcast(first: torch.Size, second: torch.Size) -> torch.Size:
    """The shape to which two batch shapes broadcast; RuntimeError if they do not."""
    return torch.Size(torch.broadcast_shapes(first, second))  # type: ignore[no-untyped-call]


@dataclass(frozen=True, eq=False)
class Full:
    """Any covariance, as its matrix (..., d, d)."""

    matrix: Tensor

    @property
    def batch_shape(self) -> torch.Size:
        """Shape before the d x d."""
        return self.matrix.shape[:-2]

    def dense(self) -> Tensor:
        """(..., d, d)."""
        return self.matrix

    def tail(self) -> Tensor:
        """(..., d, d): what `dense` has lost to rounding; nothing here."""
        return torch.zeros_like(self.matrix)

    def variance(self) -> Tensor:
        """(..., d): the diagonal."""
        return self.matrix.diagonal(dim1=-2, dim2=-1)

    def apply(self, transform: Transform, expand: Callable[[Tensor, int], Tensor]) -> Full:
        """The same covariance with every tensor transformed; `expand` also gets its event rank."""
        return Full(transform(expand(self.matrix, 2)))


@dataclass(frozen=True, eq=False)
class Diagonal:
    """Independent coordinates, as their variances (..., d)."""

    variances: Tensor

    @property
    def batch_shape(self) -> torch.Size:
        """Shape before the d."""
        return self.variances.shape[:-1]

    def dense(self) -> Tensor:
        """(..., d, d)."""
        return torch.diag_embed(self.variances)

    def tail(self) -> Tensor:
        """(..., d, d): what `dense` has lost to rounding; nothing here."""
        return torch.zeros_like(self.dense())

    def variance(self) -> Tensor:
        """(..., d): the diagonal."""
        return self.variances

    def apply(self, transform: Transform, expand: Callable[[Tensor, int], Tensor]) -> Diagonal:
        """The same covariance with every tensor transformed; `expand` also gets its event rank."""
        return Diagonal(transform(expand(self.variances, 1)))


@dataclass(frozen=True, eq=False)
class LowRank:
    """U U' + diag(v), as factor U (..., d, r) and variances v (..., d); v may be zero."""

    factor: Tensor
    variances: Tensor

    @property
    def batch_shape(self) -> torch.Size:
        """Shape before the d, the two parts broadcast."""
        return broadcast(self.factor.shape[:-2], self.variances.shape[:-1])

    def dense(self) -> Tensor:
        """(..., d, d)."""
        return self.factor @ self.factor.mT + torch.diag_embed(self.variances)

    def tail(self) -> Tensor:
        """(..., d, d): what `dense` has lost to rounding, from an exact product."""
        head, rest = product(self.factor, self.factor.mT)
        head, error = two_sum(head, torch.diag_embed(self.variances))
        return (head - self.dense()) + (rest + error)

    def variance(self) -> Tensor:
        """(..., d): the diagonal."""
        return self.factor.square().sum(-1) + self.variances

    def apply(self, transform: Transform, expand: Callable[[Tensor, int], Tensor]) -> LowRank:
        """The same covariance with every tensor transformed; `expand` also gets its event rank."""
        return LowRank(transform(expand(self.factor, 2)), transform(expand(self.variances, 1)))


Covariance = Full | Diagonal | LowRank
