"""What blocks of keys contribute to a group of queries, without looking at their keys one by one.

Around the centre q̄ of a group a query is q = q̄ + δ. Of every block c the softmax at q̄ is computed
exactly: its log-sum κ_c, its mean key m_c, its mean value v_c. To first order in δ the block then
weighs exp(κ_c + δ·m_c). To second order a Gaussian does what is missing:

    log-weight of the far part   log Σ_c exp(κ_c + δ·m_c + Σ_i s_ci x_i² / 2)
    value of the far part        Σ_c w_c v_c / Σ_c w_c + Ḡᵀ δ

Here x are the coordinates of δ in one basis for the whole head, that in which the offsets are
white and the covariance of keys inside blocks is diagonal on average; s_ci is the variance of the
keys of block c along axis i, so that Σ_i s_ci x_i² stands for δᵀ S_c δ. Ḡ is the covariance of keys
and values inside blocks, averaged over the far blocks at their weights at q̄.

Axes, all of one head: A groups of queries, T queries of a group, C blocks, B keys of a block,
D width of a key, Dv width of a value, E = D + Dv.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unabridged.attention.multipole_near import Part

__all__ = [
    "Blocks",
    "Expansion",
    "expand",
    "far_logits",
    "indicator",
    "make_blocks",
    "mix",
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
    """

    pairs: Tensor
    axes: Tensor
    variances: Tensor
    covariances: Tensor

    @property
    def width(self) -> int:
        """D."""
        return self.axes.shape[-1]


@dataclass(frozen=True, eq=False)
class Expansion:
    """Every block's softmax at the centres: κ (A, C), and means (A, C, E)."""

    log_weights: Tensor
    means: Tensor


def make_blocks(pairs: Tensor, groups: Tensor) -> Blocks:
    """Moments of blocks (C, B, E), along axes that suit groups of queries (A, T, D)."""
    width, size = groups.shape[-1], pairs.shape[1]
    keys, means = pairs[..., :width], pairs.mean(1)
    products = keys.transpose(1, 2) @ pairs / size
    moments = products - means[:, :width, None] * means[:, None]  # (C, D, E)
    offsets = (groups - groups.mean(1, keepdim=True)).detach().flatten(0, 1)
    inside = moments[..., :width]
    axes, duals = _joint_axes(_second(offsets), inside.detach().mean(0))
    variances = ((inside @ duals) * duals).sum(1)
    return Blocks(pairs, axes, variances, moments[..., width:].flatten(1))


def expand(centres: Tensor, blocks: Blocks) -> Expansion:
    """The exact softmax of every block at every centre (A, D)."""
    count, size = blocks.pairs.shape[:2]
    keys = blocks.pairs[..., : blocks.width].reshape(count * size, -1)
    logits = (keys @ centres.T).view(count, size, -1)  # (C, B, A)
    top = logits.amax(1, keepdim=True).detach()
    weights = logits.sub_(top).exp_()
    total = weights.sum(1)  # (C, A), at least 1, the block's own largest term
    means = (weights.transpose(1, 2) @ blocks.pairs) / total[..., None]  # (C, A, E)
    # Copied into the order of the groups: the products with them are over C for every group.
    return Expansion((total.log() + top[:, 0]).T.contiguous(), means.transpose(0, 1).contiguous())


def indicator(shares: Tensor, offsets: Tensor, blocks: Blocks) -> Tensor:
    """How much of a group's output hangs on what a block hides, (A, C).

    The block's share of the softmax at the centre (A, C) times the variance of δ·k inside it.
    """
    spread = (offsets @ blocks.axes).square().mean(1)  # (A, D)
    return shares * (spread @ blocks.variances.T)


def mix(
    offsets: Tensor, expansion: Expansion, near: Tensor, blocks: Blocks, exact: list[Part]
) -> Tensor:
    """Values (A, T, Dv) of one softmax over blocks that stay far and parts that are exact.

    Args:
        offsets: δ, (A, T, D).
        expansion: of all blocks.
        near: (A, C), True at blocks that are in the exact parts.
        blocks: where the moments are.
        exact: values (A, T, Dv) and log-weights (A, T) of what was attended to exactly.
    """
    logits = far_logits(offsets, expansion, near, blocks)
    correction = value_correction(offsets, expansion, near, blocks)

    # Not torch's softmax: over rows this short it takes four times as long as these passes.
    top = torch.stack([logits.amax(-1), *(weight for _, weight in exact)]).amax(0).detach()
    weights = logits.sub_(top[..., None]).exp_()  # (A, T, C)
    total = weights.sum(-1, keepdim=True)
    mixed = torch.baddbmm(total * correction, weights, expansion.means[..., blocks.width :])
    for values, weight in exact:
        share = (weight - top).exp()[..., None]
        mixed = mixed + share * values
        total = total + share
    return mixed / total


def second_order(offsets: Tensor, blocks: Blocks) -> Tensor:
    """Σ_i s_ci x_i² / 2, cut, (A, T, C)."""
    squares = (offsets @ blocks.axes).square_().mul_(0.5)
    terms = squares.flatten(0, 1) @ blocks.variances.T
    return terms.clamp_max_(_LARGEST_CORRECTION).view(*offsets.shape[:2], -1)


def far_logits(offsets: Tensor, expansion: Expansion, near: Tensor, blocks: Blocks) -> Tensor:
    """Log-weights (A, T, C) of the blocks; next to nothing where they are near."""
    logits = second_order(offsets, blocks).add_(_far_only(expansion, near)[:, None])
    return logits.baddbmm_(offsets, expansion.means[..., : blocks.width].transpose(1, 2))


def value_correction(offsets: Tensor, expansion: Expansion, near: Tensor, blocks: Blocks) -> Tensor:
    """Ḡᵀ δ, (A, T, Dv)."""
    average = _far_only(expansion, near).softmax(-1) @ blocks.covariances
    return offsets @ average.view(len(offsets), blocks.width, -1)


def _far_only(expansion: Expansion, near: Tensor) -> Tensor:
    return expansion.log_weights.masked_fill(near, torch.finfo(expansion.means.dtype).min / 2)


def _second(points: Tensor) -> Tensor:
    return points.T @ points / len(points)


def _joint_axes(white: Tensor, diagonal: Tensor) -> tuple[Tensor, Tensor]:
    """Axes F and duals N with F Nᵀ = 1, Fᵀ white F = 1, and Nᵀ diagonal N diagonal."""
    values, vectors = torch.linalg.eigh(white)
    floor = torch.finfo(white.dtype).eps * values[-1:].clamp_min(torch.finfo(white.dtype).tiny)
    roots = values.clamp_min(floor).sqrt()
    turn = torch.linalg.eigh((vectors * roots).T @ diagonal @ (vectors * roots))[1]
    return (vectors / roots) @ turn, (vectors * roots) @ turn
