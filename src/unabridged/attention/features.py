"""Random features of the softmax kernel: e^{q·k} as a mean over random directions.

Every positive map here is one Gaussian integral, sampled from one or another Gaussian,

    e^{|q+k|²/2} = E_{w~N(0, I)} e^{w·(q+k)} = E_{u~N(0, S)} [N(u; 0, I) / N(u; 0, S)] e^{u·(q+k)},

so that e^{q·k} is the mean of e^{γ_u} (e^{u·q - |q|²/2}) (e^{u·k - |k|²/2}) with a logarithmic
importance γ. FAVOR+ takes S = I, FAVOR++ the best multiple of I, FAVOR# the best S along the axes
of E[(q+k)(q+k)']. The relative variance of one feature is known in closed form for all three.

Axes: ... heads, m features, D width of a head.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

__all__ = ["Directions", "Kind", "Sampler", "best_rho", "draw"]

Kind = Literal["favor+", "favor++", "favor#", "trigonometric"]
Directions = Literal["orthogonal", "independent", "paired"]


def draw(
    features: int, width: int, *, directions: Directions, seed: int, redraws: int = 1
) -> Tensor:
    """Directions w, each N(0, I) by itself.

    Args:
        features: m of one draw; even for "paired".
        width: D.
        directions: "independent"; "orthogonal": within every block of D, Haar rotations times
            independent chi norms; "paired": orthogonal ones, each followed by its negative.
        seed: equal seeds give equal bits.
        redraws: how many independent draws are put one after the other.

    Returns:
        (redraws · m, D) float64. Not to be written to: it is kept for the next call.

    >>> w = draw(3, 3, directions="orthogonal", seed=0)
    >>> bool((w @ w.T - torch.diag((w * w).sum(1))).abs().max() < 1e-12)
    True

    Reference: Choromanski et al. (2021), Rethinking attention with performers, section 2.4.
    Departure: norms are drawn, not set to sqrt(D), which would be biased.
    """
    return _draw(features, width, directions, seed, redraws)


@lru_cache(maxsize=64)
def _draw(features: int, width: int, directions: Directions, seed: int, redraws: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    drawn = [_one_draw(features, width, directions, generator) for _ in range(redraws)]
    return torch.cat(drawn)


def _one_draw(
    features: int, width: int, directions: Directions, generator: torch.Generator
) -> Tensor:
    if directions == "paired":
        half = _one_draw(features // 2, width, "orthogonal", generator)
        return torch.stack([half, -half], dim=1).reshape(features, width)
    blocks = math.ceil(features / width)
    normal = torch.randn(blocks, width, width, generator=generator, dtype=torch.float64)
    if directions == "independent":
        return normal.reshape(-1, width)[:features].contiguous()
    q: Tensor
    q, r = torch.linalg.qr(normal)
    # Without these signs QR's rotations are not uniformly distributed.
    q = q * r.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-2)
    norms = torch.randn(blocks, width, width, generator=generator, dtype=torch.float64).norm(dim=-1)
    turned: Tensor = q.mT * norms.unsqueeze(-1)
    return turned.reshape(-1, width)[:features].contiguous()


def best_rho(spread: Tensor, width: int) -> Tensor:
    """The ρ that makes the mean of log(1 + relative variance) least.

        D log((1+ρ) / (2√ρ)) + ρ φ  is least at  ρ = 2D / (√((2φ+D)² + 8Dφ) + 2φ + D).

    Args:
        spread: φ, the mean |q+k|² over pairs; (...,) not negative.
        width: D; 1 where `spread` is an eigenvalue of E[(q+k)(q+k)'] and every axis has its own ρ.

    Returns:
        (...,) in (0, 1]; 1 is FAVOR+.

    >>> best_rho(torch.tensor([0.0, 1.0]), 1)
    tensor([1.0000, 0.2808])

    Reference: Likhosherstov et al. (2022), Chefs' random tables, theorem 4, with
    ρ = 1 / (1 - 8A); Likhosherstov et al. (2023), FAVOR#, theorem 3.2, per axis.
    """
    base = 2 * spread + width
    rho: Tensor = 2 * width / ((base.square() + 8 * width * spread).sqrt() + base)
    return rho


@dataclass(frozen=True, eq=False)
class Sampler:
    """From which Gaussian the features of a head are drawn.

    Attributes:
        rho: (..., D), one an axis; S = (1 + 1/ρ) / 2 there.
        axes: (..., D, D) orthonormal columns along which `rho` counts; None for the coordinates.
    """

    rho: Tensor
    axes: Tensor | None = None

    @staticmethod
    def of(kind: Kind, second_moment: Tensor) -> Sampler:
        """The best sampler of a positive kind where E[(q+k)(q+k)'] (..., D, D) is known."""
        if kind == "favor#":
            values, axes = torch.linalg.eigh(second_moment)
            # Rounding must not decide on the sign of an axis.
            largest = axes.gather(-2, axes.abs().argmax(-2, keepdim=True))
            return Sampler(best_rho(values.clamp_min(0), 1), axes * largest.sign())
        spread = second_moment.diagonal(dim1=-2, dim2=-1).sum(-1, keepdim=True)
        if kind == "favor+":
            spread = torch.zeros_like(spread)
        return Sampler.isotropic(spread, second_moment.shape[-1])

    @staticmethod
    def isotropic(spread: Tensor, width: int) -> Sampler:
        """The best one for E|q+k|² (..., 1) that is the same in all directions; FAVOR+ at 0."""
        return Sampler(best_rho(spread, width).expand(*spread.shape[:-1], width))

    def features(self, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Directions u ~ N(0, S) out of w ~ N(0, I), and their log-importance γ up to a constant.

        Args:
            directions: (m, D).

        Returns:
            (..., m, D) and (..., m).
        """
        inverse = 1 / self.rho.unsqueeze(-2)
        moved = directions * ((1 + inverse) / 2).sqrt()
        importance = (directions.square() * (1 - inverse) / 4).sum(-1)
        return moved if self.axes is None else moved @ self.axes.mT, importance

    def log_variance(self, second_moment: Tensor) -> Tensor:
        """Mean over pairs of log(1 + relative variance of one independent feature), (...,).

            Σ_l log((1 + ρ_l) / (2√ρ_l)) + ρ_l E[(q+k)_l²],   for FAVOR+  E|q+k|².

        >>> moment = torch.diag(torch.tensor([1.0, 8.0]))
        >>> for kind in ("favor+", "favor++", "favor#"):
        ...     print(f"{Sampler.of(kind, moment).log_variance(moment).item():.3f}")
        9.000
        2.004
        1.721
        """
        if self.axes is not None:
            second_moment = self.axes.mT @ second_moment @ self.axes
        along = second_moment.diagonal(dim1=-2, dim2=-1)
        rho = self.rho
        return (((1 + rho) / (2 * rho.sqrt())).log() + rho * along).sum(-1)
