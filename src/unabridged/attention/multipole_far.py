"""What blocks of keys contribute to a group of queries, without looking at their keys one by one.

Around the centre q̄ of a group a query is q = q̄ + δ. Of every block c the softmax at q̄ is computed
exactly: its log-sum κ_c, its mean key m_c, its mean value v_c. To first order in δ the block then
weighs exp(κ_c + δ·m_c). To second order a Gaussian does what is missing, with the covariances of
keys with keys (S) and with values (G) inside the blocks, averaged over the far blocks at their
weights at q̄:

    log-weight of the far part   log Σ_c exp(κ_c + δ·m_c) + δᵀ S̄ δ / 2
    value of the far part        Σ_c w_c v_c / Σ_c w_c + Ḡᵀ δ

Axes: G heads, A groups of queries, T queries of a group, C blocks, B keys of a block, D width of a
key, Dv width of a value, E = D + Dv.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unabridged.attention.multipole_near import Part

__all__ = ["Blocks", "Expansion", "expand", "far_part", "indicator", "moments"]

_LARGEST_CORRECTION = 2.0
"""δᵀ S̄ δ / 2 beyond this says that no Gaussian fits; it is cut there, measured to do least harm."""


@dataclass(frozen=True, eq=False)
class Blocks:
    """Keys with their values beside them, block after block.

    Attributes:
        pairs: (G, C, B, E), keys in the first D columns.
        moments: (G, C, D, E), covariances of keys with keys and with values inside each block.
        width: D.
    """

    pairs: Tensor
    moments: Tensor
    width: int


@dataclass(frozen=True, eq=False)
class Expansion:
    """Every block's softmax at the centres: κ (G, A, C), and means (G, A, C, E)."""

    log_weights: Tensor
    means: Tensor


def moments(pairs: Tensor, width: int) -> Tensor:
    """Covariances (G, C, D, E) of keys with keys and values, of pairs (G, C, B, E)."""
    centred = pairs - pairs.mean(2, keepdim=True)
    return centred[..., :width].transpose(2, 3) @ centred / pairs.shape[2]


def expand(centres: Tensor, blocks: Blocks) -> Expansion:
    """The exact softmax of every block at every centre (G, A, D)."""
    keys = blocks.pairs[..., : blocks.width]
    logits = centres[:, None] @ keys.transpose(2, 3)  # (G, C, A, B)
    top = logits.amax(-1, keepdim=True).detach()
    weights = (logits - top).exp()
    total = weights.sum(-1, keepdim=True)  # at least 1, the block's own largest term
    means = (weights @ blocks.pairs) / total  # (G, C, A, E)
    log_weights = (total.log() + top).squeeze(-1)
    return Expansion(log_weights.transpose(1, 2), means.transpose(1, 2))


def indicator(shares: Tensor, offsets: Tensor, blocks: Blocks) -> Tensor:
    """How much of a group's output hangs on what a block hides, (G, A, C).

    The block's share of the softmax at the centre times the standard deviation of δ·k inside it:
    the relative error of its weight, were it expanded to first order only.
    """
    spread = offsets.transpose(2, 3) @ offsets / offsets.shape[2]  # (G, A, D, D)
    inside = blocks.moments[..., : blocks.width]
    variance = spread.flatten(2) @ inside.flatten(2).transpose(1, 2)
    return shares * variance.clamp_min(0).sqrt()


def far_part(offsets: Tensor, expansion: Expansion, near: Tensor, blocks: Blocks) -> Part:
    """The part of the softmax that stays far: values (G, A, T, Dv), log-weights (G, A, T).

    Args:
        offsets: δ, (G, A, T, D).
        expansion: of all blocks.
        near: (G, A, C), True at blocks that are attended to exactly.
        blocks: where the covariances are.
    """
    width = blocks.width
    least = torch.finfo(offsets.dtype).min
    log_weights = expansion.log_weights.masked_fill(near, -torch.inf)
    at_centre = (log_weights - log_weights.amax(-1, keepdim=True).clamp_min(least)).exp()
    at_centre = at_centre / at_centre.sum(-1, keepdim=True).clamp_min(1e-30)
    average = at_centre @ blocks.moments.flatten(2)
    average = average.view(*near.shape[:2], *blocks.moments.shape[2:])
    moved = offsets @ average  # (G, A, T, E): δᵀS̄ and δᵀḠ
    correction = (moved[..., :width] * offsets).sum(-1) / 2

    logits = offsets @ expansion.means[..., :width].transpose(2, 3) + log_weights[:, :, None]
    top = logits.amax(-1, keepdim=True).clamp_min(least).detach()
    weights = (logits - top).exp()  # (G, A, T, C)
    total = weights.sum(-1, keepdim=True)
    mixed = weights @ expansion.means[..., width:] / total.clamp_min(1e-30) + moved[..., width:]
    far = total.squeeze(-1).log() + top.squeeze(-1)
    return mixed, far + correction.clamp_max(_LARGEST_CORRECTION)
