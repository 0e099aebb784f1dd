"""Factors of covariances, with what the factorization got wrong kept beside them.

A float64 factor of S is the exact factor of some S + R with |R| about 1e-16 |S|. Distances between
Gaussians that nearly coincide feel R multiplied by the condition number of S, so `Root` keeps the
defect W = M S M' - I, computed to twice float64, and the distances correct for it to first order.

Axis legend: ... batch, d dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from unabridged.geometry._exact_products import congruence

__all__ = ["Root", "quadratic", "rank_floor", "root", "symmetric"]


def symmetric(matrix: Tensor) -> Tensor:
    """The symmetric part."""
    return (matrix + matrix.mT) / 2


def rank_floor(values: Tensor) -> Tensor:
    """(..., 1): eigenvalues at or below this one are rounding noise and count as zero.

    d times machine epsilon times the largest eigenvalue, or four times the most negative one where
    that is more: a covariance has no negative eigenvalues, so these show the noise of the data.
    """
    largest = values.amax(-1, keepdim=True).clamp_min(0)
    most_negative = (-values.amin(-1, keepdim=True)).clamp_min(0)
    rounding = values.shape[-1] * torch.finfo(values.dtype).eps * largest
    return torch.maximum(rounding, 4 * most_negative)


@dataclass(frozen=True)
class Root:
    """An eigendecomposition S = V diag(values) V', used through its factors.

    Attributes:
        head: (..., d, d) float64, the covariance, rounded.
        tail: (..., d, d) float64, what that rounding lost; head + tail is the covariance.
        values: (..., d) ascending eigenvalues, exactly zero outside the support.
        vectors: (..., d, d) eigenvectors in columns.
        support: (..., d) bool, whether the eigenvalue counts as positive.
    """

    head: Tensor
    tail: Tensor
    values: Tensor
    vectors: Tensor
    support: Tensor

    @cached_property
    def factor(self) -> Tensor:
        """(..., d, d): L with L L' = S; zero columns outside the support."""
        return self.vectors * self.values.sqrt().unsqueeze(-2)

    @cached_property
    def inverse_values(self) -> Tensor:
        """(..., d): one over the eigenvalues, zero outside the support."""
        return torch.where(self.support, 1 / self.values, 0.0)

    @cached_property
    def inverse(self) -> Tensor:
        """(..., d, d): M with M S M' = I; zero rows outside the support."""
        return self.inverse_values.sqrt().unsqueeze(-1) * self.vectors.mT

    @cached_property
    def defect(self) -> Tensor:
        """(..., d, d): W = M S M' - I on the support, accurate although it is tiny."""
        product = congruence(self.inverse, self.head, self.inverse)
        product = product + self.inverse @ self.tail @ self.inverse.mT
        return symmetric(product - torch.diag_embed(self.support.to(product.dtype)))

    @cached_property
    def log_determinant(self) -> Tensor:
        """(...): log of the product of the eigenvalues on the support."""
        logs = torch.where(self.support, self.values, 1.0).log().sum(-1)
        return logs + self.defect.diagonal(dim1=-2, dim2=-1).sum(-1)

    @cached_property
    def rank(self) -> Tensor:
        """(...): number of eigenvalues that count as positive."""
        return self.support.sum(-1)


def root(head: Tensor, tail: Tensor) -> Root:
    """Factor the covariance head + tail.

    Args:
        head: (..., d, d) float64, symmetric.
        tail: (..., d, d) float64, symmetric, below the rounding of head.
    """
    values, vectors = torch.linalg.eigh(head)
    support = values > rank_floor(values)
    return Root(head, tail, torch.where(support, values, 0.0), vectors, support)


def quadratic(of: Root, vector: Tensor) -> Tensor:
    """(...): v' S^-1 v on the support of S, for v (..., d)."""
    whitened = of.inverse @ vector.unsqueeze(-1)  # (..., d, 1)
    squared = whitened.square().sum((-2, -1))
    return squared - (whitened.mT @ of.defect @ whitened).sum((-2, -1))
