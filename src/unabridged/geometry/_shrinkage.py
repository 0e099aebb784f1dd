"""Gaussians of data: mean, covariance, and the intensity with which it shrinks to a sphere.

Both rules mix the maximum-likelihood covariance S with m I, m = tr S / d, by an intensity rho that
depends on few traces of S, so that data with fewer rows than dimensions never need a d x d matrix.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

import torch
from torch import Tensor

from unabridged.geometry._covariances import Covariance, Full, LowRank
from unabridged.geometry.shrinkage import Shrinkage, shrinkage_intensity

if TYPE_CHECKING:
    from unabridged.geometry.moments import Moments

__all__ = ["Shrinkage", "shrink_moments", "shrink_samples"]


def shrink_samples(samples: Tensor, shrinkage: Shrinkage) -> tuple[Tensor, Covariance]:
    """Mean (..., d) and covariance of samples (..., n, d), in the dtype of the samples."""
    _check_choice("Gaussian.from_samples", shrinkage)
    if samples.ndim < 2 or samples.shape[-2] < 1 or samples.shape[-1] < 1:
        raise ValueError(
            f"Gaussian.from_samples: samples has shape {tuple(samples.shape)}; it must be "
            "(..., n, d) with n and d at least 1, so pass one row a sample."
        )
    n, d = samples.shape[-2:]
    rows = samples.double()
    mean = rows.mean(-2)
    factor = (rows - mean.unsqueeze(-2)).mT / n**0.5  # (..., d, n)
    gram = factor.mT @ factor if n < d else factor @ factor.mT
    squared_norms = factor.square().sum(-2)  # (..., n), |x|^2 / n
    trace, trace_of_square = squared_norms.sum(-1), gram.square().sum((-2, -1))
    fourth = squared_norms.square().sum(-1)  # sum |x|^4 / n^2
    rho = _intensity(shrinkage, n, d, trace, trace_of_square, fourth)
    sphere = (rho * trace / d).unsqueeze(-1)  # (..., 1)
    keep = (1 - rho)[..., None, None]
    dtype = samples.dtype
    if n < d:
        structure: Covariance = LowRank(
            (factor * keep.sqrt()).to(dtype), sphere.expand(*sphere.shape[:-1], d).to(dtype)
        )
    else:
        eye = torch.eye(d, dtype=rows.dtype, device=rows.device)
        structure = Full((gram * keep + sphere.unsqueeze(-1) * eye).to(dtype))
    return mean.to(dtype), structure


def shrink_moments(moments: Moments, shrinkage: Shrinkage) -> tuple[Tensor, Tensor]:
    """Mean (d,) and covariance (d, d), float64, of a stream of vectors."""
    _check_choice("Gaussian.from_moments", shrinkage)
    if not moments.count > 0:
        raise ValueError(
            f"Gaussian.from_moments: the moments weigh {moments.count:g}; they must have seen at "
            "least one row, so update them with data first."
        )
    covariance = torch.from_numpy(moments.covariance())
    d, rho = moments.dimension, shrinkage_intensity(moments, shrinkage)
    sphere = rho * covariance.trace() / d * torch.eye(d, dtype=torch.float64)
    return torch.from_numpy(moments.mean.copy()), (1 - rho) * covariance + sphere


def _intensity(
    shrinkage: Shrinkage, n: float, d: int, trace: Tensor, square: Tensor, fourth: Tensor
) -> Tensor:
    """The rho in [0, 1] from tr S, tr S^2 and sum |x|^4 / n^2."""
    if shrinkage == "none":
        return torch.zeros_like(trace)
    spread = square - trace.square() / d  # |S - m I|^2
    if shrinkage == "ledoit_wolf":
        above, below = fourth - square / n, spread
    else:
        above = (1 - 2 / d) * square + trace.square()
        below = (n + 1 - 2 / d) * spread
    flat = below <= above.clamp_min(0)  # also S = m I, where both rules say 1
    return torch.where(flat, 1.0, above.clamp_min(0) / torch.where(flat, 1.0, below))


def _check_choice(caller: str, shrinkage: str) -> None:
    choices = get_args(Shrinkage)
    if shrinkage not in choices:
        raise ValueError(
            f"{caller}: shrinkage is {shrinkage!r}; it must be one of {', '.join(choices)}, "
            "so pass one of these."
        )
