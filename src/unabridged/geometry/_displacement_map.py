"""The optimal map between centred Gaussians less the identity, as a differentiable function.

K(S -> T) is symmetric with (I + K) S (I + K) = T; it is the whole gradient of W2^2, and vanishes
where S = T. Its own derivative solves a Lyapunov equation, by sums and never by differences of
eigenvalues, so a repeated eigenvalue does no harm.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from unabridged.geometry._bures import displacement
from unabridged.geometry._roots import root, symmetric

__all__ = ["displacement_map"]


class _DisplacementMap(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, source: Tensor, target: Tensor) -> Tensor:  # noqa: ANN401
        base = root(source, torch.zeros_like(source))
        goal = root(target, torch.zeros_like(target))
        n = displacement(goal, base, target - source).n
        k = symmetric(base.inverse.mT @ n @ base.inverse)
        g = n + torch.diag_embed(base.values)
        ctx.save_for_backward(k, g, base.factor, base.inverse)
        return k

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ANN401
        k, g, factor, inverse = ctx.saved_tensors
        gamma, basis = torch.linalg.eigh(g)
        gamma = gamma.clamp_min(0)
        weights = gamma.unsqueeze(-1) + gamma.unsqueeze(-2)
        floor = 1e-14 * gamma[..., -1:].unsqueeze(-1)
        divide = torch.where(weights > floor, 1 / weights, 0.0)
        pulled = basis.mT @ inverse @ symmetric(outer[0]) @ inverse.mT @ basis
        spread = factor @ basis
        to_target = symmetric(spread @ (pulled * divide) @ spread.mT)
        moved = to_target + k @ to_target
        return -symmetric(moved + moved @ k), to_target


def displacement_map(source: Tensor, target: Tensor) -> Tensor:
    """K(source -> target), (B, d, d) float64, on the support of the source."""
    k: Tensor = _DisplacementMap.apply(source, target)  # type: ignore[no-untyped-call]
    return k
