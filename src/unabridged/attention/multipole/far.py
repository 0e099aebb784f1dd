"""What blocks of keys contribute to a group of queries, without looking at their keys one by one.

Around the centre q̄ of a group a query is q = q̄ + δ. Of every block c the softmax at q̄ over those
keys that the group does not meet one by one is computed exactly: its log-sum κ_c, its mean key m_c,
its mean value v_c. To first order in δ the block then weighs exp(κ_c + δ·m_c). To second order a
Gaussian does what is missing:

    log-weight of the far part   log Σ_c exp(κ_c + δ·m_c + Σ_i s_ci x_i² / 2)
    value of the far part        Σ_c w_c v_c / Σ_c w_c + Ḡᵀ δ

Here x are the coordinates of δ in one basis for the whole head, that in which the offsets are
white and the covariance of keys inside blocks is diagonal on average; s_ci is the variance of the
keys of block c along axis i, so that Σ_i s_ci x_i² stands for δᵀ S_c δ. Ḡ is the covariance of keys
and values inside blocks, averaged over the blocks at their weights at q̄. Where keys are met one by
one, keys count in these variances and covariances as much as they weigh, unmet, on average.

Axes, all of one head: A groups of queries, T queries of a group, C blocks, B keys of a block,
D width of a key, Dv width of a value, E = D + Dv.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unabridged.attention.multipole.near import Part

__all__ = [
    "Blocks",
    "Expansion",
    "centre_logits",
    "expand",
    "far_logits",
    "far_part",
    "make_blocks",
    "second_order",
    "value_correction",
]

_LARGEST_CORRECTION = 1.0
"""Σ s x² / 2 is cut here: a Gaussian has no largest key, a block has. Of 0.25, 0.5, 1, 2 and 4 this
erred least on a pretrained encoder."""


@dataclass(frozen=True, eq=False)
class Blocks:
    """Keys with their values beside them, block after block, and their moments.

    Attributes:
        pairs: (C, B, E), keys in the first D columns.
        axes: (D, D), x = δ @ axes.
        variances: (C, D), s, of the keys inside each block along the axes.
        covariances: (C, D·Dv), of keys and values inside each block.
        white: (D, D), the second moment of all offsets δ.
    """

    pairs: Tensor
    axes: Tensor
    variances: Tensor
    covariances: Tensor
    white: Tensor

    @property
    def width(self) -> int:
        """D."""
        return self.axes.shape[-1]

    @torch.no_grad()
    def hidden(self) -> Tensor:
        """(C·B): log E(δ·(k - m))² over all offsets, what a block hides of each of its keys."""
        keys = self.pairs[..., : self.width]
        apart = keys - keys.mean(1, keepdim=True)
        spread: Tensor = ((apart @ self.white) * apart).sum(-1)
        return spread.clamp_min_(0).log_().flatten()


@dataclass(frozen=True, eq=False)
class Expansion:
    """Every block's softmax at the centres: κ (A, C), and means (A, C, E)."""

    log_weights: Tensor
    means: Tensor


def make_blocks(pairs: Tensor, groups: Tensor, weights: Tensor | None = None) -> Blocks:
    """Moments of blocks, along axes that suit groups of queries.

    Args:
        pairs: (C, B, E), differentiable.
        groups: (A, T, D).
        weights: (C, B), not negative, what each key counts in its block's moments and each block
            in the choice of axes; None for all alike. See `Survey.weights`.
    """
    width = groups.shape[-1]
    if weights is None:
        weights = pairs.new_ones(pairs.shape[:2])
    sizes = weights.sum(1, keepdim=True).clamp_min(torch.finfo(weights.dtype).tiny)
    weighted = pairs * (weights / sizes)[..., None]
    means = weighted.sum(1)
    moments = weighted[..., :width].mT @ pairs - means[:, :width, None] * means[:, None]
    inside = moments[..., :width]  # (C, D, D) of (C, D, E)
    offsets = (groups - groups.mean(1, keepdim=True)).detach().flatten(0, 1)
    white, average = _second(offsets), (sizes / sizes.sum())[..., None] * inside.detach()
    axes, duals = _joint_axes(white, average.sum(0))
    variances = ((inside @ duals) * duals).sum(1)
    return Blocks(pairs, axes, variances, moments[..., width:].flatten(1), white)


def centre_logits(centres: Tensor, blocks: Blocks) -> Tensor:
    """(A, C·B): the products of centres (A, D) and all keys of the blocks."""
    return centres @ blocks.pairs[..., : blocks.width].flatten(0, 1).T


def expand(logits: Tensor, blocks: Blocks) -> Expansion:
    """The exact softmax of every block at every centre.

    Args:
        logits: (A, C·B), minus infinity at keys that are left out; overwritten.
        blocks: where the keys are.
    """
    logits = logits.view(len(logits), *blocks.pairs.shape[:2])
    info = torch.finfo(logits.dtype)
    top = logits.detach().amax(-1, keepdim=True).clamp_min(info.min / 2)
    weights = logits.sub_(top).exp_()
    total = weights.sum(-1).clamp_min(info.tiny)  # (A, C), at least 1 where a key is left
    means = (weights.transpose(0, 1) @ blocks.pairs) / total.T[..., None]  # (C, A, E)
    # Copied into the order of the groups: the products with them are over C for every group.
    return Expansion(total.log() + top[..., 0], means.transpose(0, 1).contiguous())


def far_part(offsets: Tensor, expansion: Expansion, blocks: Blocks) -> Part:
    """Values (A, T, Dv) of one softmax over the blocks, and its log-weights (A, T).

    Args:
        offsets: δ, (A, T, D).
        expansion: of all blocks.
        blocks: where the moments are.
    """
    logits = far_logits(offsets, expansion, blocks)
    correction = value_correction(offsets, expansion, blocks)
    # Not torch's softmax: over rows this short it takes four times as long as these passes.
    top = logits.detach().amax(-1, keepdim=True)
    weights = logits.sub_(top).exp_()  # (A, T, C)
    total = weights.sum(-1, keepdim=True)
    mixed = (weights @ expansion.means[..., blocks.width :]) / total
    return mixed + correction, (total.log() + top)[..., 0]


def second_order(offsets: Tensor, blocks: Blocks) -> Tensor:
    """Σ_i s_ci x_i² / 2, cut, (A, T, C)."""
    squares = (offsets @ blocks.axes).square_().mul_(0.5)
    terms = squares.flatten(0, 1) @ blocks.variances.T
    return terms.clamp_max_(_LARGEST_CORRECTION).view(*offsets.shape[:2], -1)


def far_logits(offsets: Tensor, expansion: Expansion, blocks: Blocks) -> Tensor:
    """Log-weights (A, T, C) of the blocks."""
    logits = second_order(offsets, blocks).add_(expansion.log_weights[:, None])
    return logits.baddbmm_(offsets, expansion.means[..., : blocks.width].mT)


def value_correction(offsets: Tensor, expansion: Expansion, blocks: Blocks) -> Tensor:
    """Ḡᵀ δ, (A, T, Dv)."""
    average = expansion.log_weights.softmax(-1) @ blocks.covariances
    return offsets @ average.view(len(offsets), blocks.width, -1)


def _second(points: Tensor) -> Tensor:
    return points.T @ points / len(points)


def _joint_axes(white: Tensor, diagonal: Tensor) -> tuple[Tensor, Tensor]:
    """Axes F and duals N with F Nᵀ = 1, Fᵀ white F = 1, and Nᵀ diagonal N diagonal."""
    values, vectors = torch.linalg.eigh(white)
    floor = torch.finfo(white.dtype).eps * values[-1:].clamp_min(torch.finfo(white.dtype).tiny)
    roots = values.clamp_min(floor).sqrt()
    turn = torch.linalg.eigh((vectors * roots).T @ diagonal @ (vectors * roots))[1]
    return (vectors / roots) @ turn, (vectors * roots) @ turn
