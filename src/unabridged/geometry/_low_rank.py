"""KL between covariances U U' + diag(v), v > 0, by Woodbury's identity in O(d r^2).

With C = I + U' V^-1 U and A = V^-1 U chol(C)^-T, the inverse covariance is V^-1 - A A'. These
differences cancel where p approaches q or where U U' dwarfs V; each value comes with the size of
what it was subtracted from, and the doubtful ones are computed again, densely.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from unabridged.geometry._covariances import Full, LowRank
from unabridged.geometry._pairs import Pair
from unabridged.geometry.gaussian import Gaussian

__all__ = ["Woodbury", "has_density_parts", "is_thin", "low_rank_kl", "mend", "woodbury"]

WANTED = 1e-10
ROUNDING = 16 * torch.finfo(torch.float64).eps


@dataclass(frozen=True)
class Woodbury:
    """What the inverse of U U' + diag(v) is made of.

    Attributes:
        factor: (..., d, r) U.
        variances: (..., d) v.
        a: (..., d, r) A, with (U U' + V)^-1 = V^-1 - A A'.
        log_determinant: (...).
        dwarfing: (...) the largest entry of C, by which the inverse cancels.
    """

    factor: Tensor
    variances: Tensor
    a: Tensor
    log_determinant: Tensor
    dwarfing: Tensor


def has_density_parts(pair: Pair) -> bool:
    """Whether both are diagonal or low rank plus a diagonal that is positive everywhere."""
    return is_thin(pair.p) and is_thin(pair.q)


def is_thin(gaussian: Gaussian) -> bool:
    """Whether it is diagonal or low rank plus a diagonal that is positive everywhere."""
    structure = gaussian.structure
    if isinstance(structure, Full):
        return False
    wide = isinstance(structure, LowRank) and structure.factor.shape[-1] >= gaussian.dimension
    return not wide and bool((structure.variances > 0).all())


def woodbury(gaussian: Gaussian) -> Woodbury:
    """Prepare a batch of Gaussians that are diagonal or low rank + positive diagonal."""
    structure = gaussian.structure
    if isinstance(structure, LowRank):
        factor = structure.factor.expand(*gaussian.mean.shape, -1)
        variances = structure.variances.expand(gaussian.mean.shape)
    else:
        factor = gaussian.mean.new_zeros(*gaussian.mean.shape, 0)
        variances = gaussian.variance
    scaled = factor / variances.unsqueeze(-1)
    eye = torch.eye(factor.shape[-1], dtype=factor.dtype, device=factor.device)
    inner = eye + factor.mT @ scaled
    cholesky = torch.linalg.cholesky(inner)
    a = torch.linalg.solve_triangular(cholesky, scaled.mT, upper=False).mT
    pivots = cholesky.diagonal(dim1=-2, dim2=-1)
    log_determinant = variances.log().sum(-1) + 2 * pivots.log().sum(-1)
    dwarfing = 1 + pivots.detach().square().sum(-1)
    return Woodbury(factor, variances, a, log_determinant, dwarfing)


def low_rank_kl(pair: Pair) -> tuple[Tensor, Tensor]:
    """KL (B,), and a mask (B,) of values that may have lost more than ten digits' worth."""
    p, q = woodbury(pair.p), woodbury(pair.q)
    whole = (pair.p.variance / q.variances).sum(-1)
    by_diagonal = (p.variances.unsqueeze(-1) * q.a.square()).sum((-2, -1))
    by_factor = (q.a.mT @ p.factor).square().sum((-2, -1))
    trace = whole - by_diagonal - by_factor
    delta = pair.delta
    straight = (delta.square() / q.variances).sum(-1)
    moved = straight - (q.a.mT @ delta.unsqueeze(-1)).square().sum((-2, -1))
    logs = p.log_determinant - q.log_determinant
    value = (trace - pair.p.dimension - logs + moved) / 2
    with torch.no_grad():
        sizes = whole + straight + pair.p.dimension
        sizes = sizes + p.log_determinant.abs() + q.log_determinant.abs()
        doubtful = ROUNDING * sizes * torch.maximum(p.dwarfing, q.dwarfing) > WANTED * value
    return value, doubtful


def mend(
    pair: Pair, values: Tensor, doubtful: Tensor, accurate: Callable[[Pair], Tensor]
) -> Tensor:
    """The values (B,), with the doubtful ones computed again by `accurate`."""
    if not bool(doubtful.any()):
        return values
    chosen = replace(pair, p=pair.p[doubtful], q=pair.q[doubtful])
    return values.index_put((doubtful.nonzero().squeeze(-1),), accurate(chosen))
