"""What softmax attention does not feel, used to make its random features as good as they can be.

For any vectors a, b and any invertible T,

    q·k = T^-T(q - a) · T(k - b) + a·(k - b) + q·b.

The last term is the same for all keys of a query and cancels in its softmax; a·(k - b) is a
logarithmic weight of the key. So every choice of a, b, T is exact, and the choice matters only for
the variance of features, which grows with |q+k|². The means as a and b, and the T for which both
sides get one covariance, make E|q|² + E|k|² least: T'T is then the Monge map that carries the
Gaussian of the keys onto the one of the queries.

Statistics are taken per text and head, over real keys, in float64, and carry no gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

__all__ = ["Frame", "Invariances", "second_moment_of_sums", "settle"]

Invariances = Literal["none", "keys", "centred", "monge"]


@dataclass(frozen=True, eq=False)
class Frame:
    """Where queries and keys are looked at from; None is zero, or the identity.

    Attributes:
        query_shift: (B, H, 1, D) a.
        key_shift: (B, H, 1, D) b.
        key_basis: (B, H, D, D) T; keys become T(k - b).
        query_basis: (B, H, D, D) T^-T.
    """

    query_shift: Tensor | None = None
    key_shift: Tensor | None = None
    key_basis: Tensor | None = None
    query_basis: Tensor | None = None

    def queries(self, query: Tensor) -> Tensor:
        """(B, H, Nq, D): T^-T(q - a)."""
        return _moved(query, self.query_shift, self.query_basis)

    def keys(self, key: Tensor) -> Tensor:
        """(B, H, Nk, D): T(k - b)."""
        return _moved(key, self.key_shift, self.key_basis)

    def log_weights(self, key: Tensor) -> Tensor | None:
        """(B, H, Nk, 1): a·(k - b), what a shift of the queries leaves to the keys."""
        if self.query_shift is None:
            return None
        centred = _moved(key, self.key_shift, None)
        return centred @ self.query_shift.to(key.dtype).mT


def _moved(x: Tensor, shift: Tensor | None, basis: Tensor | None) -> Tensor:
    x = x if shift is None else x - shift.to(x.dtype)
    return x if basis is None else x @ basis.to(x.dtype).mT


@torch.no_grad()
def settle(
    query: Tensor, key: Tensor, *, key_mask: Tensor | None, invariances: Invariances
) -> Frame:
    """The frame that a choice of invariances gives these heads.

    Args:
        query: (B, H, Nq, D), scaled.
        key: (B, H, Nk, D), scaled.
        key_mask: (B, Nk) bool or None. Where there are as many queries as keys, they are taken to
            be the same tokens, and queries of masked ones count no more than those.
        invariances: "none"; "keys": keys are centred; "centred": queries too; "monge": and both
            sides get one covariance, diagonal.
    """
    if invariances == "none":
        return Frame()
    weights = _shares(key, key_mask)
    key_mean = _mean(key, weights)
    if invariances == "keys":
        return Frame(key_shift=key_mean)
    rows = key_mask if query.shape[2] == key.shape[2] else None
    query_weights = _shares(query, rows)
    query_mean = _mean(query, query_weights)
    if invariances == "centred":
        return Frame(query_mean, key_mean)
    centred = key.double() - key_mean
    keys = _scatter(centred, weights)
    queries = _scatter(query.double() - query_mean, query_weights)
    eps = torch.finfo(key.dtype).eps
    rounding = eps * _trace(keys) + 4 * eps**2 * key_mean.square().sum(-1, keepdim=True)
    key_basis, query_basis = _balanced(keys, queries, rounding, eps)
    # A sign for every axis, so that a change of basis beforehand gives the same axes again.
    skewness = _mean((centred @ key_basis.mT) ** 3, weights)
    sign = torch.where(skewness < 0, -1.0, 1.0).mT
    return Frame(query_mean, key_mean, sign * key_basis, sign * query_basis)


@torch.no_grad()
def second_moment_of_sums(query: Tensor, key: Tensor, key_mask: Tensor | None) -> Tensor:
    """(B, H, D, D) float64: the mean of (q+k)(q+k)' over all pairs, from sums over each alone."""
    rows = key_mask if query.shape[2] == key.shape[2] else None
    moments, means = [], []
    for x, mask in ((query, rows), (key, key_mask)):
        weights = _shares(x, mask)
        moments.append(_scatter(x.double(), weights))
        means.append(_mean(x, weights))
    cross = means[0].mT @ means[1]
    return moments[0] + moments[1] + cross + cross.mT


def _shares(x: Tensor, mask: Tensor | None) -> Tensor:
    """(B, 1, N, 1) float64 weights that sum to 1, or are all zero where nothing is real."""
    if mask is None:
        return x.new_full((1, 1, 1, 1), 1 / x.shape[2], dtype=torch.float64)
    share = mask.double() / mask.sum(-1, keepdim=True).clamp_min(1)
    return share[:, None, :, None]


def _mean(x: Tensor, weights: Tensor) -> Tensor:
    return (x.double() * weights).sum(2, keepdim=True)


def _scatter(x: Tensor, weights: Tensor) -> Tensor:
    return (x * weights).mT @ x


def _trace(matrix: Tensor) -> Tensor:
    return matrix.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]


def _balanced(keys: Tensor, queries: Tensor, rounding: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """T and T^-T with T Sk T' = T^-T Sq T^-1 diagonal, from one Cholesky factor and one eigh.

    With Sk = LL' and L' Sq L = U Λ U', T = Λ^¼ U' L^-1; both covariances become Λ^½. Directions
    that hold nothing but rounding are held open by it: any T is exact, so that costs no accuracy.
    """
    tiny = torch.finfo(torch.float32).tiny
    eye = torch.eye(keys.shape[-1], dtype=keys.dtype, device=keys.device)
    root = torch.linalg.cholesky(keys + (rounding + tiny) * eye)
    values, turn = torch.linalg.eigh(root.mT @ queries @ root)
    fourth = values.clamp_min(eps * values[..., -1:].clamp_min(tiny)) ** 0.25
    inward = torch.linalg.solve_triangular(root.mT, turn, upper=True).mT
    return fourth.unsqueeze(-1) * inward, (root @ turn).mT / fourth.unsqueeze(-1)
