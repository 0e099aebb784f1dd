"""The mixing of one head.

Axes: A groups of queries, T queries of a group, C blocks, B keys of a block, m keys that a group
meets, s shared keys, D width of a key, Dv width of a value, E = D + Dv.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from unabridged.attention.multipole.far import (
    Blocks,
    Expansion,
    centre_logits,
    expand,
    far_part,
)
from unabridged.attention.multipole.near import Part, attend, join, meet, select
from unabridged.attention.multipole.plan import Plan

__all__ = ["Field", "Look", "exact_parts", "look", "mix_groups", "mix_rows"]

_SCORES = 2**19
"""Scores of centres against keys that are held at a time, so that they stay in cache."""


@dataclass(frozen=True, eq=False)
class Field:
    """What a group of queries stands before.

    Attributes:
        blocks: keys in blocks, and their moments.
        pairs: (C·B, E), the keys of the blocks in the dtype of exact products.
        shared: (s, E), the keys that are exact for every query, in the same dtype.
        near: m, how many keys of the blocks every group meets one by one.
        hidden: (C·B,), what expanding a key hides of it; see `Blocks.hidden`. None if m is 0.
    """

    blocks: Blocks
    pairs: Tensor
    shared: Tensor
    near: int
    hidden: Tensor | None

    @staticmethod
    def of(plan: Plan, blocks: Blocks, near: int, dtype: torch.dtype) -> Field:
        """What the groups of a plan stand before, exact products in some dtype."""
        pairs = blocks.pairs.flatten(0, 1).to(dtype)
        hidden = blocks.hidden() if near else None
        return Field(blocks, pairs, plan.shared.to(dtype), near, hidden)


@dataclass(frozen=True, eq=False)
class Look:
    """From the centres of some groups: which keys are met (A, m), and what the others look like."""

    met: Tensor
    expansion: Expansion

    def of(self, groups: Tensor) -> Look:
        """The same from some of the groups (R,), any of them any number of times."""
        log_weights, means = self.expansion.log_weights[groups], self.expansion.means[groups]
        return Look(self.met[groups], Expansion(log_weights, means))


def mix_groups(groups: Tensor, field: Field) -> Tensor:
    """Values (A, T, Dv) of all groups (A, T, D), some groups at a time.

    With gradients, every step is computed again when they are asked for.
    """
    remember = torch.is_grad_enabled() and (
        groups.requires_grad or field.blocks.pairs.requires_grad
    )
    parts = torch.split(groups, max(1, _SCORES // len(field.pairs)))
    if remember:
        return torch.cat(
            [checkpoint(_mix_some, some, field, use_reentrant=False) for some in parts]
        )
    return torch.cat([_mix_some(some, field) for some in parts])


def mix_rows(rows: Tensor, centres: Tensor, seen: Look, field: Field) -> Tensor:
    """Values (A, T, Dv) of rows (A, T, D), any queries of groups with these centres (A, D)."""
    far = far_part(rows - centres[:, None], seen.expansion, field.blocks)
    return join([far, *exact_parts(rows.to(field.pairs.dtype), seen.met, field)])


def _mix_some(groups: Tensor, field: Field) -> Tensor:
    centres = groups.mean(1)
    return mix_rows(groups, centres, look(centres, field), field)


def exact_parts(rows: Tensor, met: Tensor, field: Field) -> list[Part]:
    """What rows (A, T, D) make of the shared keys, and of those they meet (A, m)."""
    parts = [_for_all(rows, field.shared)]
    if field.near:
        parts.append(meet(rows, field.pairs, met))
    return parts


def look(centres: Tensor, field: Field) -> Look:
    """What groups with these centres (A, D) meet, and what is expanded around them.

    Met are the keys with the largest share of the softmax at the centre times mean square of
    δ·(k - m) over the head's offsets δ: what the expansion would hide of them.
    """
    logits = centre_logits(centres, field.blocks)
    if field.hidden is None:
        none = torch.empty(len(centres), 0, dtype=torch.long, device=centres.device)
        return Look(none, expand(logits, field.blocks))
    met = select(logits.detach() + field.hidden, field.near)
    return Look(met, expand(logits.scatter(1, met, -torch.inf), field.blocks))


def _for_all(rows: Tensor, pairs: Tensor) -> Part:
    """Exact attention of rows (A, T, D) to the same pairs (K, E) for all."""
    width = rows.shape[-1]
    values, weights = attend(
        rows.flatten(0, 1)[None], pairs[None, :, :width], pairs[None, :, width:]
    )
    return values.view(*rows.shape[:2], -1), weights.view(rows.shape[:2])
