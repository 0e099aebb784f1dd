"""Distances between dense covariances, as values: cancellation-free, no autograd.

Every function takes the difference of the covariances D = Sp - Sq as an argument of its own,
because it must be formed before anything else rounds. Axis legend: ... batch, d dimensions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unabridged.geometry._exact_products import congruence
from unabridged.geometry._roots import Root, symmetric

__all__ = [
    "bhattacharyya_value",
    "jeffreys_value",
    "kl_value",
    "minus_log1p",
    "relative_difference",
]

NEAR = 0.5
SERIES_TERMS = 24


def minus_log1p(x: Tensor) -> Tensor:
    """The function x - log(1 + x), without cancellation at zero.

    With r = x / (2 + x), log1p(x) = 2 atanh(r), hence x - log1p(x) = r (x - 2 (r^2/3 + ...)).

    >>> minus_log1p(torch.tensor([1e-8, 1.0], dtype=torch.float64))
    tensor([5.0000e-17, 3.0685e-01], dtype=torch.float64)
    """
    r = torch.where(x.abs() <= NEAR, x, 0.0) / (2 + x)
    square = r * r
    series = torch.zeros_like(r)
    for k in range(SERIES_TERMS, 0, -1):
        series = square * (1 / (2 * k + 1) + series)
    return torch.where(x.abs() <= NEAR, r * (x - 2 * series), x - torch.log1p(x))


def relative_difference(base: Root, difference: Tensor) -> Tensor:
    """(..., d, d): X = S^-1/2 D S^-1/2 for the base S, in the eigenbasis of its factor."""
    x = congruence(base.inverse, difference, base.inverse)
    correction = base.defect @ x
    return symmetric(x - (correction + correction.mT) / 2)


def kl_value(p: Root, q: Root, difference: Tensor) -> Tensor:
    """(...): KL of the covariances, 1/2 sum (x - log1p x), x the relative difference to q.

    Where an x is near -1, its logarithm is taken from the two determinants instead.
    """
    x = relative_difference(q, difference)
    values = torch.linalg.eigvalsh(x)
    near = minus_log1p(values.clamp_min(-0.9)).sum(-1) / 2
    trace = x.diagonal(dim1=-2, dim2=-1).sum(-1)
    far = (trace - (p.log_determinant - q.log_determinant)) / 2
    return torch.where(values.amin(-1) > -NEAR, near, far)


def jeffreys_value(p: Root, q: Root, difference: Tensor) -> Tensor:
    """(...): KL(p|q) + KL(q|p) of the covariances, 1/2 tr(Sp^-1 D Sq^-1 D)."""
    mixed = congruence(p.inverse, difference, q.inverse)
    corrected = mixed - p.defect @ mixed - mixed @ q.defect
    return (mixed * corrected).sum((-2, -1)) / 2


def bhattacharyya_value(p: Root, q: Root, middle: Root, difference: Tensor) -> Tensor:
    """(...): Bhattacharyya distance of the covariances, -1/4 sum log(1 - z^2).

    z are the eigenvalues of half the difference relative to the mean covariance, `middle`. Where
    one is near 1, the logarithm is taken from the three determinants instead.
    """
    z = torch.linalg.eigvalsh(relative_difference(middle, difference / 2)).abs()
    near = -torch.log1p(-z.clamp_max(0.9).square()).sum(-1) / 4
    far = middle.log_determinant / 2 - (p.log_determinant + q.log_determinant) / 4
    return torch.where(z.amax(-1) < NEAR, near, far)
