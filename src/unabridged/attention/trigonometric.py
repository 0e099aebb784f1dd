"""Trigonometric features, e^{-|q-k|²/2} = E cos(w·(q - k)): signed, so refused where unsafe.

The best there is for pairs that nearly agree (relative variance e^t (1 - e^-t)² / 2 at
t = |q - k|²), and useless for others: where the weights of a row should be small, their estimates
are of either sign, and the sum that the row is divided by may be zero or negative.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unabridged.attention.linear import FeatureMap, nonzero, with_ones

__all__ = ["ratio_of_waves"]

_CLEAR = 4.0
"""Standard errors by which every denominator must stand above zero."""


def ratio_of_waves(
    maps: FeatureMap, query: Tensor, key: Tensor, log_weight: Tensor, value: Tensor
) -> Tensor:
    """Values mixed by estimates of e^{log weight - |q-k|²/2}.

    Args:
        maps: their offset is a phase of the queries.
        query: (G, n, d).
        key: (G, k, d).
        log_weight: (G, k, 1); -inf for a masked key.
        value: (G, k, v).

    Returns:
        (G, n, v), differentiable by autograd.

    Raises:
        ArithmeticError: if a denominator is within four standard errors of zero, as estimated
            from the m terms that it is the sum of.

    Reference: Rahimi & Recht (2007), Random features for large-scale kernel machines.
    """
    least = torch.finfo(key.dtype).min
    ceiling = log_weight.detach().amax(1, keepdim=True).clamp_min(least)
    weight = (log_weight - ceiling).exp()
    angles = torch.bmm(key, maps.directions.mT)
    sums = (_waves(angles) * weight).mT @ with_ones(value)
    waves = _waves(torch.baddbmm(maps.offset, query, maps.query_directions.mT))
    _refuse_unsafe(waves, sums[..., -1:])
    both = waves @ sums
    return both[..., :-1] / nonzero(both[..., -1:])


def _waves(angles: Tensor) -> Tensor:
    """(G, n, 2m)."""
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


@torch.no_grad()
def _refuse_unsafe(waves: Tensor, sums: Tensor) -> None:
    cosines, sines = (waves * sums.mT).chunk(2, dim=-1)
    pairs = cosines + sines
    total = pairs.sum(-1)
    error = pairs.var(-1, correction=0).mul(pairs.shape[-1]).sqrt()
    real = (sums != 0).any(1)
    unsafe = (total <= _CLEAR * error) & real
    if bool(unsafe.any()):
        raise ArithmeticError(
            f"Favor: trigonometric features leave {int(unsafe.sum())} of {unsafe.numel()} "
            f"denominators within {_CLEAR:.0f} standard errors of zero; all must be clear of it, "
            "so use a positive kind, or more features."
        )
