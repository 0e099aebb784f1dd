"""A bound on the error of every row of multipole attention that needs no exact attention.

For a query q = q̄ + δ let y_j = δ·(k_j - m_c) over the keys of a far block c. Under the softmax at
q̄ the mean of y is zero, and R_c is its range. Then, whatever the keys are:

- the block's weight differs from exp(κ_c + δ·m_c) by a factor between 1 (Jensen) and
  exp(R_c² / 8) (Hoeffding's lemma), so that the factor ρ_c to the weight that was used, which
  holds a second-order term g_c, lies between exp(-g_c) and exp(R_c² / 8 - g_c);
- the block's mean value moves by at most tanh(R_c / 4) diameters of its values, the total variation
  between two softmaxes whose logits differ by something of range R_c.

With w the weights that were used, d the diameter of all values and d_c that of a block's, the row
errs, in the Euclidean norm and up to rounding, by at most

    d min(1, E / (1 - F)) + Σ_c w_c (d_c tanh(R_c / 4) + |Ḡᵀ δ|),
    E = Σ_c w_c max |ρ_c - 1|,   F = Σ_c w_c (1 - exp(-g_c)),   sums over the far blocks.

Axes, all of one head: A groups of queries, T queries of a group, C blocks, B keys of a block,
D width of a key, Dv width of a value.

Reference: Hoeffding (1963), Probability inequalities for sums of bounded random variables, lemma 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unabridged.attention.multipole_choice import Choice
from unabridged.attention.multipole_far import far_logits, second_order, value_correction
from unabridged.attention.multipole_head import parts_of

__all__ = ["certify"]

_SCORES = 2**22
"""Scores of offsets against keys that are held at a time."""


@torch.no_grad()
def certify(choice: Choice) -> Tensor:
    """Bounds (A·T) on the Euclidean error of all slots of a head.

    Costs the products of all queries with all keys, without their exponentials and without values:
    the ranges R_c are exact.
    """
    slots = choice.plan.groups.shape[1] * choice.plan.pairs.shape[0] * choice.plan.pairs.shape[1]
    values = choice.plan.pairs[..., choice.blocks.width :]
    everything = torch.cat([values.flatten(0, 1), choice.plan.shared[:, choice.blocks.width :]])
    diameters = _diameter(values), _diameter(everything[None])[0]
    parts = torch.split(choice.plan.groups, max(1, _SCORES // slots))
    return torch.cat([_bounds(choice, groups, *diameters) for groups in parts]).flatten()


def _bounds(choice: Choice, groups: Tensor, inside: Tensor, whole: Tensor) -> Tensor:
    """(A, T), from the diameters of each block's values (C) and of all values ()."""
    blocks, plan = choice.blocks, choice.plan
    offsets, expansion, near, exact = parts_of(groups, blocks, plan.pairs, plan.shared, choice.near)
    logits = far_logits(offsets, expansion, near, blocks)
    exact_weights = torch.stack([weight for _, weight in exact], dim=-1)
    total = torch.cat([logits, exact_weights], dim=-1).logsumexp(-1, keepdim=True)
    weights = (logits - total).exp() * ~near[:, None]
    spread = _ranges(offsets, plan.pairs[..., : blocks.width])
    second = second_order(offsets, blocks)
    low, high = torch.exp(-second), torch.exp((spread.square() / 8 - second).clamp_max(80.0))
    wrong = (weights * torch.maximum(1 - low, (high - 1).abs())).sum(-1)
    left = 1 - (weights * (1 - low)).sum(-1)
    moved = value_correction(offsets, expansion, near, blocks).norm(dim=-1)
    values = (weights * (inside * torch.tanh(spread / 4) + moved[..., None])).sum(-1)
    bounds: Tensor = whole * (wrong / left).clamp_max(1.0) + values
    return bounds


def _ranges(offsets: Tensor, keys: Tensor) -> Tensor:
    """(A, T, C): largest less smallest δ·k over the keys (C, B, D) of each block."""
    along = (offsets @ keys.flatten(0, 1).T).unflatten(-1, keys.shape[:2])  # type: ignore[no-untyped-call]
    spread: Tensor = along.amax(-1) - along.amin(-1)
    return spread


def _diameter(values: Tensor) -> Tensor:
    """At least the largest distance between two of some values (..., N, Dv)."""
    ball = 2 * (values - values.mean(-2, keepdim=True)).norm(dim=-1).amax(-1)
    box = (values.amax(-2) - values.amin(-2)).norm(dim=-1)
    return torch.minimum(ball, box)
