"""A bound on the error of every row of multipole attention that needs no exact attention.

For a query q = q̄ + δ let y_j = δ·(k_j - m_c) over those keys of a block c that are not met. Under
the softmax at q̄ the mean of y is zero; let R_c be its range. Then, whatever the keys are:

- the block's weight differs from exp(κ_c + δ·m_c) by a factor between 1 (Jensen) and
  exp(R_c² / 8) (Hoeffding's lemma), so that the factor ρ_c to the weight that was used, which
  holds a second-order term g_c, lies between exp(-g_c) and exp(R_c² / 8 - g_c);
- the block's mean value moves by at most tanh(R_c / 4) diameters of its values, the total variation
  between two softmaxes whose logits differ by something of range R_c.

With w the weights that were used, d the diameter of all values and d_c that of a block's, the row
errs, in the Euclidean norm and up to rounding, by at most

    d min(1, E / (1 - F)) + Σ_c w_c (d_c tanh(R_c / 4) + |Ḡᵀ δ|) + |b|,
    E = Σ_c w_c max |ρ_c - 1|,   F = Σ_c w_c (1 - exp(-g_c)),   sums over the blocks,

where b is what was added to all rows, the mean of what the sampled ones were off.

Axes, all of one head: A groups of queries, T queries of a group, C blocks, B keys of a block,
D width of a key, Dv width of a value.

Reference: Hoeffding (1963), Probability inequalities for sums of bounded random variables, lemma 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unabridged.attention.multipole.choice import Choice, misses
from unabridged.attention.multipole.far import far_logits, second_order, value_correction
from unabridged.attention.multipole.head import Field, exact_parts, look
from unabridged.attention.multipole.plan import Head

__all__ = ["certify"]

_SCORES = 2**22
"""Scores of offsets against keys that are held at a time."""


@torch.no_grad()
def certify(head: Head, choice: Choice) -> Tensor:
    """Bounds (Nq) on the Euclidean error of all rows of a head.

    Costs the products of all queries with all keys, without their exponentials and without values:
    the ranges R_c are exact.
    """
    plan = choice.plan
    field = Field.of(plan, choice.blocks, choice.near, plan.groups.dtype)
    values = plan.pairs[..., plan.width :]
    everything = torch.cat([values.flatten(0, 1), plan.shared[:, plan.width :]])
    diameters = _diameter(values), _diameter(everything[None])[0]
    parts = torch.split(plan.groups, max(1, _SCORES // (plan.groups.shape[1] * plan.keys)))
    bounds = torch.cat([_bounds(field, groups, *diameters) for groups in parts]).flatten()
    added: Tensor = misses(head, choice).mean(0).norm()
    return bounds[plan.places] + added


def _bounds(field: Field, groups: Tensor, inside: Tensor, whole: Tensor) -> Tensor:
    """(A, T), from the diameters of each block's values (C) and of all values ()."""
    blocks, centres = field.blocks, groups.mean(1)
    offsets, seen = groups - centres[:, None], look(centres, field)
    logits = far_logits(offsets, seen.expansion, blocks)
    exact = [weight for _, weight in exact_parts(groups, seen.met, field)]
    total = torch.cat([logits, torch.stack(exact, dim=-1)], dim=-1).logsumexp(-1, keepdim=True)
    weights = (logits - total).exp()
    spread = _ranges(offsets, field, seen.met)
    second = second_order(offsets, blocks)
    low, high = torch.exp(-second), torch.exp((spread.square() / 8 - second).clamp_max(80.0))
    wrong = (weights * torch.maximum(1 - low, (high - 1).abs())).sum(-1)
    left = 1 - (weights * (1 - low)).sum(-1)
    moved = value_correction(offsets, seen.expansion, blocks).norm(dim=-1)
    values = (weights * (inside * torch.tanh(spread / 4) + moved[..., None])).sum(-1)
    bounds: Tensor = whole * (wrong / left).clamp_max(1.0) + values
    return bounds


def _ranges(offsets: Tensor, field: Field, met: Tensor) -> Tensor:
    """(A, T, C): largest less smallest δ·k over those keys of each block that are not met."""
    blocks, size, _ = field.blocks.pairs.shape
    along = offsets @ field.blocks.pairs[..., : field.blocks.width].flatten(0, 1).T
    apart = met[:, None].expand(-1, offsets.shape[1], -1)
    high, low = (
        along.scatter(2, apart, end).view(*along.shape[:2], blocks, size)
        for end in (-torch.inf, torch.inf)
    )
    spread: Tensor = (high.amax(-1) - low.amin(-1)).clamp_min(0.0)
    return spread


def _diameter(values: Tensor) -> Tensor:
    """At least the largest distance between two of some values (..., N, Dv)."""
    ball = 2 * (values - values.mean(-2, keepdim=True)).norm(dim=-1).amax(-1)
    box = (values.amax(-2) - values.amin(-2)).norm(dim=-1)
    return torch.minimum(ball, box)
