"""What RealFormer hands from layer to layer: the scores so far, whole or as their factors.

Axes: B batch, H heads, Nq queries, Nk keys, D width of a head, L layers so far.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Factors", "Gate", "Total", "compress", "predicted_log_variance"]

Gate = float | Tensor
"""How much of the earlier layers' scores a layer adds: 1 is RealFormer, 0 plain attention.

A number, or a tensor of shape () or (H,).
"""


@dataclass(frozen=True)
class Total:
    """Scores (B, H, Nq, Nk) of this layer and all before it, scaled, without any mask."""

    scores: Tensor

    def then(self, scores: Tensor, gate: Gate) -> Total:
        """With another layer's scores: A_n = S_n + g_n A_{n-1}."""
        return Total(scores + _per_head(gate, scores).view(-1, 1, 1) * self.scores)


@dataclass(frozen=True)
class Factors:
    """The same scores as queries and keys: A_n = scale * sum over l of w_l Q_l K_l^T.

    By blocks that is one product of concatenated queries and keys. The factors of earlier layers
    are referred to, never copied, so a stack of L layers holds L pairs in all.

    Attributes:
        queries: L tensors (B, H, Nq, D_l).
        keys: L tensors (B, H, Nk, D_l).
        weights: (L, H), products of the gates passed since; the last row is one.
    """

    queries: tuple[Tensor, ...]
    keys: tuple[Tensor, ...]
    weights: Tensor

    @classmethod
    def of(cls, query: Tensor, key: Tensor) -> Factors:
        """A first layer's."""
        return cls((query,), (key,), query.new_ones(1, query.shape[1]))

    def then(self, query: Tensor, key: Tensor, gate: Gate) -> Factors:
        """With another layer's queries and keys; every earlier weight is multiplied by the gate."""
        own = self.weights.new_ones(1, self.weights.shape[1])
        weights = torch.cat([self.weights * _per_head(gate, self.weights), own])
        return Factors((*self.queries, query), (*self.keys, key), weights)

    def concatenated(self) -> tuple[Tensor, Tensor]:
        """Queries (B, H, Nq, sum D_l), gates in them, and keys (B, H, Nk, sum D_l), as copies."""
        if len(self.queries) == 1:
            return self.queries[0], self.keys[0]
        weighted = [q * w[:, None, None] for q, w in zip(self.queries, self.weights, strict=True)]
        return torch.cat(weighted, dim=-1), torch.cat(self.keys, dim=-1)


def _per_head(gate: Gate, like: Tensor) -> Tensor:
    return torch.as_tensor(gate, dtype=like.dtype, device=like.device)


def compress(
    query: Tensor, key: Tensor, rank: int, *, key_mask: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """The best factors of width `rank`, but for what the softmax does not see, of query·keyᵀ.

    Thin QR of both sides and the SVD of the small product; the error of the scores in the
    Frobenius norm is that of the dropped singular values (Eckart and Young 1936), after the mean
    key is taken off: it moves all scores of a row alike, and so nothing.

    Args:
        query: (B, H, Nq, C).
        key: (B, H, Nk, C).
        rank: width kept, at least 1.
        key_mask: (B, Nk), True where a key is real; masked keys neither count nor stay.

    Returns:
        Queries (B, H, Nq, r), keys (B, H, Nk, r) with r = min(rank, C, Nq, Nk), and all
        singular values (B, H, ·) in falling order.

    >>> generator = torch.Generator().manual_seed(0)
    >>> q, k = torch.randn(2, 1, 1, 11, 6, generator=generator, dtype=torch.float64)
    >>> left, right, singular = compress(q, k, 6)
    >>> exact = q @ (k - k.mean(2, keepdim=True)).mT
    >>> bool(((left @ right.mT) - exact).abs().max() < 1e-12)
    True
    >>> left, right, singular = compress(q, k, 4)
    >>> error = (left @ right.mT - exact).norm()
    >>> bool((error - singular[0, 0, 4:].norm()).abs() < 1e-12)
    True
    """
    if rank < 1:
        raise ValueError(f"rank: got {rank}, wanted at least 1.")
    key = _centred(key, key_mask)
    left, small_left = torch.linalg.qr(query)
    right, small_right = torch.linalg.qr(key)
    u, singular, v = torch.linalg.svd(small_left @ small_right.mT, full_matrices=False)
    root = singular[..., None, :rank].sqrt()
    return left @ (u[..., :rank] * root), right @ (v.mT[..., :rank] * root), singular


def _centred(key: Tensor, key_mask: Tensor | None) -> Tensor:
    if key_mask is None:
        return key - key.mean(dim=-2, keepdim=True)
    real = key_mask[:, None, :, None].to(key.dtype)  # (B, 1, Nk, 1)
    mean = (key * real).sum(dim=-2, keepdim=True) / real.sum(dim=-2, keepdim=True).clamp(min=1)
    return (key - mean) * real


def predicted_log_variance(
    factors: Factors, features: int, *, scale: float | None = None
) -> Tensor:
    """Natural log of the relative variance of FAVOR+, a pair of query and key, (B, H, Nq, Nk).

    Positive random features of q and k estimate exp(q·k) with relative variance
    (exp(|q + k|²) - 1) / features (Choromanski et al. 2021, lemma 2). Of concatenated vectors the
    squares add up, so layers multiply it: prod over l of exp(w_l |q_l + k_l|²). Small problems
    only: every pair is formed.

    Args:
        factors: of the layers so far; weights at least 0 (they stand on both sides as roots).
        features: how many random features.
        scale: of the scores; None for 1 / sqrt(D) of the last layer.

    >>> one = Factors.of(torch.ones(1, 1, 1, 4), torch.ones(1, 1, 1, 4))
    >>> two = one.then(torch.ones(1, 1, 1, 4), torch.ones(1, 1, 1, 4), 1.0)
    >>> [round(float(predicted_log_variance(each, 64)), 2) for each in (one, two)]
    [3.84, 11.84]
    """
    if bool((factors.weights < 0).any()):
        raise ValueError("predicted_log_variance: a gate is negative; wanted gates of at least 0.")
    scale = factors.queries[-1].shape[-1] ** -0.5 if scale is None else scale
    exponent = torch.zeros((), dtype=factors.weights.dtype)
    for query, key, weight in zip(factors.queries, factors.keys, factors.weights, strict=True):
        distance = torch.cdist(query, -key).square()  # |q + k|²
        exponent = exponent + scale * weight[:, None, None] * distance
    # log(e^x - 1) without overflow; x > 0 unless a key is exactly minus its query
    return exponent + torch.log(-torch.expm1(-exponent)) - torch.log(torch.tensor(float(features)))
