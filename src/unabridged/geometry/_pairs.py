"""Two Gaussians made ready for computation: float64, one space, one flat batch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from unabridged.geometry._covariances import broadcast
from unabridged.geometry._roots import Root, root
from unabridged.geometry.gaussian import Gaussian, GaussianLike, as_gaussian

__all__ = ["Pair", "check_same_space", "pair_up"]


@dataclass(frozen=True)
class Pair:
    """Gaussians p and q in float64 with one flat batch of length B, and what they share.

    Attributes:
        p: batch shape (B,).
        q: batch shape (B,).
        batch_shape: the broadcast batch shape that a result takes.
        dtype: the dtype that a result takes.
    """

    p: Gaussian
    q: Gaussian
    batch_shape: torch.Size
    dtype: torch.dtype

    @property
    def delta(self) -> Tensor:
        """(B, d) difference of the means."""
        return self.p.mean - self.q.mean

    def shaped(self, values: Tensor) -> Tensor:
        """Results (B, ...) in the broadcast batch shape and the caller's dtype."""
        return values.reshape((*self.batch_shape, *values.shape[1:])).to(self.dtype)

    @cached_property
    def p_root(self) -> Root:
        """Factor of the covariance of p, without autograd."""
        return _root(self.p)

    @cached_property
    def q_root(self) -> Root:
        """Factor of the covariance of q, without autograd."""
        return _root(self.q)

    def difference(self) -> Tensor:
        """(B, d, d) difference of the covariances, without autograd, formed before it can round."""
        p, q = self.p_root, self.q_root
        return (p.head - q.head) + (p.tail - q.tail)

    def same_support(self) -> Tensor:
        """(B,) whether p and q live on the same flat, within the rounding of the caller's dtype.

        Only then is one absolutely continuous with respect to the other.
        """
        p, q = self.p_root, self.q_root
        d = p.values.shape[-1]
        eps = torch.finfo(self.dtype).eps
        largest = torch.maximum(p.values[..., -1], q.values[..., -1])
        least = torch.where(q.support, q.values, torch.inf).amin(-1)
        angle = (64 * d * eps * largest / least).nan_to_num(0.0).clamp(max=1e-6)
        outside = (~q.support).to(p.values.dtype).unsqueeze(-1) * q.vectors.mT  # (B, d, d)
        spill = (outside @ p.factor).square().sum((-2, -1))
        shift = (outside @ self.delta.detach().unsqueeze(-1)).norm(dim=(-2, -1))
        sizes = self.p.mean.detach().norm(dim=-1) + self.q.mean.detach().norm(dim=-1)
        delta_size = self.delta.detach().norm(dim=-1)
        inside = spill <= (64 * d * eps + angle.square()) * largest
        inside &= shift <= angle * delta_size + 8 * eps * sizes
        full = (p.rank == d) & (q.rank == d)
        return full | ((p.rank == q.rank) & inside)


def check_same_space(p: Gaussian, q: Gaussian, *, caller: str) -> None:
    """Raise unless p and q agree in dimension (ValueError), dtype and device (TypeError)."""
    if p.dimension != q.dimension:
        raise ValueError(
            f"{caller}: p has {p.dimension} dimensions and q has {q.dimension}; both must live in "
            "the same space, so project one of them first."
        )
    if p.dtype != q.dtype or p.device != q.device:
        raise TypeError(
            f"{caller}: p is {str(p.dtype)[6:]} on {p.device} and q is {str(q.dtype)[6:]} on "
            f"{q.device}; both must agree, so convert one of them with .to()."
        )


def pair_up(p: GaussianLike, q: GaussianLike, *, caller: str) -> Pair:
    """Read, check, broadcast and flatten two arguments.

    Raises:
        TypeError: if one is not Gaussian, or dtypes or devices differ.
        ValueError: if dimensions differ or batch shapes do not broadcast.
    """
    first, second = as_gaussian(p, caller=caller, name="p"), as_gaussian(q, caller=caller, name="q")
    check_same_space(first, second, caller=caller)
    try:
        shape = broadcast(first.batch_shape, second.batch_shape)
    except RuntimeError:
        raise ValueError(
            f"{caller}: p has batch shape {tuple(first.batch_shape)} and q "
            f"{tuple(second.batch_shape)}; these must broadcast, so add an axis of size 1 or call "
            "pairwise for all pairs."
        ) from None
    return Pair(_flat(first, shape), _flat(second, shape), shape, first.dtype)


def _flat(gaussian: Gaussian, shape: torch.Size) -> Gaussian:
    """Batch shape (B,), float64."""
    return gaussian.expand(shape).flatten().to(torch.float64)


def _root(gaussian: Gaussian) -> Root:
    with torch.no_grad():
        return root(gaussian.covariance, gaussian.structure.tail())
