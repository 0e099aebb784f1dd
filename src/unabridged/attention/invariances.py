"""What softmax attention does not feel, used to make its random features as good as they can be.

For any vectors a, b and any invertible T,

    q·k = T^-T(q - a) · T(k - b) + a·(k - b) + q·b.

The last term is the same for all keys of a query and cancels in its softmax; a·(k - b) is a
logarithmic weight of the key. So every choice of a, b, T is exact, and the choice matters only for
the variance of features, which grows with |q+k|². The means as a and b, and the T for which both
sides get one covariance, make E|q|² + E|k|² least: T'T is then the Monge map that carries the
Gaussian of the keys onto the one of the queries.

Statistics are taken per text and head, over real tokens, in float64, and carry no gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

__all__ = ["Cloud", "Frame", "Invariances", "settle"]

Invariances = Literal["none", "keys", "centred", "monge"]

_HELD_OPEN = 0.01
"""Ridge of clouds that cannot fill their space, as a share of their variance."""

_ROWS = 1024
"""Rows that are turned to float64 at a time."""


@dataclass(frozen=True, eq=False)
class Cloud:
    """The queries, or the keys, of every head, and their first two moments when asked for.

    Attributes:
        points: (B, H, N, D).
        real: (B, N) bool, which of them count; None for all.
        scale: what they are to be multiplied by; the moments are, the points are not.
    """

    points: Tensor
    real: Tensor | None
    scale: float

    @cached_property
    def mean(self) -> Tensor:
        """(B, H, 1, D) float64; zero where no point is real."""
        points = self.points.detach()
        if self.real is not None:
            points = points * self.real[:, None, :, None]
        return self.scale * points.sum(2, keepdim=True, dtype=torch.float64) / self.count

    @cached_property
    def covariance(self) -> Tensor:
        """(B, H, D, D) float64."""
        points, middle = self.points.detach(), self.mean / self.scale
        batch, heads, n, width = points.shape
        scatter = middle.new_zeros(batch, heads, width, width)
        for at in range(0, n, _ROWS):
            rows = slice(at, at + _ROWS)
            part = points[:, :, rows].double() - middle
            if self.real is not None:
                part *= self.real[:, None, rows, None]
            scatter += part.mT @ part
        return self.scale**2 * scatter / self.count

    @property
    def count(self) -> Tensor | int:
        """How many points are real, (B, 1, 1, 1), at least 1; or the same for all."""
        if self.real is None:
            return self.points.shape[2]
        return self.real.sum(-1).clamp_min(1)[:, None, None, None]


@dataclass(frozen=True, eq=False)
class Frame:
    """Where queries and keys are looked at from, in float64; None is zero, or the identity.

    Attributes:
        query_shift: (B, H, 1, D) a.
        key_shift: (B, H, 1, D) b.
        query_basis: (B, H, D, D) T^-T; queries become T^-T(q - a).
        key_basis: (B, H, D, D) T; keys become T(k - b).
    """

    query_shift: Tensor | None = None
    key_shift: Tensor | None = None
    query_basis: Tensor | None = None
    key_basis: Tensor | None = None

    def keys(self, key: Tensor) -> tuple[Tensor, Tensor | None]:
        """T(k - b) of scaled keys (B, H, Nk, D), and their log weights a·(k - b) (B, H, Nk, 1)."""
        if self.key_shift is not None:
            key = key - self.key_shift.to(key.dtype)
        weights = None if self.query_shift is None else key @ self.query_shift.to(key.dtype).mT
        return key if self.key_basis is None else key @ self.key_basis.to(key.dtype).mT, weights

    def second_moment(self, queries: Cloud, keys: Cloud) -> Tensor:
        """(B, H, D, D): the mean over all pairs of (q+k)(q+k)', as both are seen from here."""
        moment = _congruent(self.query_basis, queries.covariance)
        moment = moment + _congruent(self.key_basis, keys.covariance)
        if self.query_shift is not None:
            return moment
        # No choice of invariances shifts the queries alone, and a basis comes after both shifts.
        middle = queries.mean if self.key_shift is not None else queries.mean + keys.mean
        return moment + middle.mT @ middle


def settle(queries: Cloud, keys: Cloud, invariances: Invariances) -> Frame:
    """The frame that a choice of invariances gives these heads.

    Args:
        queries: as they are multiplied by keys.
        keys: likewise.
        invariances: "none"; "keys": keys are centred; "centred": queries too; "monge": and both
            sides get one covariance, diagonal.
    """
    if invariances == "none":
        return Frame()
    if invariances == "keys":
        return Frame(key_shift=keys.mean)
    if invariances == "centred":
        return Frame(queries.mean, keys.mean)
    query_basis, key_basis = _balanced(queries, keys)
    # A sign for every axis, so that a change of basis beforehand gives the same axes again.
    sign = torch.where(queries.mean @ query_basis.mT < 0, -1.0, 1.0).mT
    return Frame(queries.mean, keys.mean, sign * query_basis, sign * key_basis)


def _balanced(queries: Cloud, keys: Cloud) -> tuple[Tensor, Tensor]:
    """T^-T and T with T^-T Sq T^-1 = T Sk T' diagonal, from one Cholesky factor and one eigh.

    With Sk = LL' and L' Sq L = U Λ U', T = Λ^¼ U' L^-1; both covariances become Λ^½.
    """
    root = torch.linalg.cholesky(_filled(keys))
    values, turn = torch.linalg.eigh(root.mT @ _filled(queries) @ root)
    fourth = values.clamp_min(torch.finfo(values.dtype).tiny) ** 0.25
    inward = torch.linalg.solve_triangular(root.mT, turn, upper=True).mT
    return (root @ turn).mT / fourth.unsqueeze(-1), fourth.unsqueeze(-1) * inward


def _filled(cloud: Cloud) -> Tensor:
    """Covariance whose empty directions are held open by a ridge.

    Any T is exact, so that costs no accuracy. As many points as dimensions or fewer always leave
    empty directions; there the ridge is large, so that rounding does not turn the axes about.
    """
    eps, width = torch.finfo(cloud.points.dtype).eps, cloud.points.shape[3]
    covariance = cloud.covariance
    trace = covariance.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
    full = torch.as_tensor(cloud.count, device=trace.device) > width
    rounding = 4 * eps**2 * cloud.mean.square().sum(-1, keepdim=True)
    ridge = torch.where(full, eps, _HELD_OPEN) * trace + rounding
    eye = torch.eye(width, dtype=trace.dtype, device=trace.device)
    return covariance + (ridge + torch.finfo(torch.float32).tiny) * eye


def _congruent(basis: Tensor | None, covariance: Tensor) -> Tensor:
    return covariance if basis is None else basis @ covariance @ basis.mT
