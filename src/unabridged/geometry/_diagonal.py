"""Distances between diagonal Gaussians in O(d), coordinate by coordinate.

Every function takes variances a (of p), b (of q) and the difference of the means, all (..., d) and
broadcastable, and returns (...). A variance of exactly zero is a coordinate without density.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unabridged.geometry._dense_values import NEAR, minus_log1p

__all__ = ["diagonal_bhattacharyya", "diagonal_jeffreys", "diagonal_kl", "diagonal_wasserstein2"]


def _supports(a: Tensor, b: Tensor, delta: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Whether p and q share their support, and a, b with 1 where neither has density."""
    inside = ((a > 0) == (b > 0)) & ((a > 0) | (delta == 0))
    dense = (a > 0) & (b > 0)
    return inside.all(-1), dense, torch.where(dense, a, 1.0), torch.where(dense, b, 1.0)


def diagonal_kl(a: Tensor, b: Tensor, delta: Tensor) -> Tensor:
    """1/2 sum (x - log1p x) + 1/2 sum delta^2 / b with x = (a - b) / b."""
    same, dense, a, b = _supports(a, b, delta)
    x = (a - b) / b
    near = x > -NEAR
    shape = torch.where(
        near,
        minus_log1p(torch.where(near, x, 0.0)),
        x - (torch.where(near, 1.0, a).log() - torch.where(near, 1.0, b).log()),
    )
    total = (shape + torch.where(dense, delta, 0.0).square() / b).sum(-1) / 2
    return torch.where(same, total, torch.inf)


def diagonal_jeffreys(a: Tensor, b: Tensor, delta: Tensor) -> Tensor:
    """1/2 sum (a - b)^2 / (ab) + 1/2 sum delta^2 (1/a + 1/b)."""
    same, dense, a, b = _supports(a, b, delta)
    moved = torch.where(dense, delta, 0.0).square() * (1 / a + 1 / b)
    total = (((a - b) / a) * ((a - b) / b) + moved).sum(-1) / 2
    return torch.where(same, total, torch.inf)


def diagonal_bhattacharyya(a: Tensor, b: Tensor, delta: Tensor) -> Tensor:
    """-1/4 sum log(1 - z^2) + 1/4 sum delta^2 / (a + b) with z = (a - b) / (a + b)."""
    same, dense, a, b = _supports(a, b, delta)
    z = (a - b) / (a + b)
    near = z.abs() < NEAR
    far = 2 * ((a + b) / 2).log() - a.log() - b.log()
    shape = torch.where(near, -torch.log1p(-torch.where(near, z, 0.0).square()), far)
    total = (shape + torch.where(dense, delta, 0.0).square() / (a + b)).sum(-1) / 4
    return torch.where(same, total, torch.inf)


def diagonal_wasserstein2(a: Tensor, b: Tensor, delta: Tensor) -> Tensor:
    """Sum of ((a - b) / (sqrt a + sqrt b))^2 + delta^2; zero variances are allowed."""
    some = (a > 0) | (b > 0)
    roots = torch.where(some, a, 1.0).sqrt() + torch.where(some, b, 1.0).sqrt()
    return (((a - b) / roots).square() + delta.square()).sum(-1)
