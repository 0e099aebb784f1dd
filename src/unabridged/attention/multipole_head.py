"""The mixing of one head.

Axes: A groups of queries, T queries of a group, C blocks, B keys of a block, s shared keys, D width
of a key, Dv width of a value, E = D + Dv.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from unabridged.attention.multipole_far import Blocks, Expansion, expand, indicator, mix
from unabridged.attention.multipole_near import Part, attend
from unabridged.attention.multipole_plan import HeadPlan

__all__ = ["mix_head", "parts_of", "shares"]

_SCORES = 2**20
"""Scores of centres against keys that are held at a time, so that they stay in cache."""


def mix_head(plan: HeadPlan, blocks: Blocks, near: int, dtype: torch.dtype) -> Tensor:
    """Values (A·T, Dv) of all slots, every group with `near` exact blocks.

    Args:
        plan: of the head.
        blocks: of the plan.
        near: number of blocks, from 1 on.
        dtype: of the exact products; everything else is in the dtype of the plan.
    """
    keys = plan.pairs.shape[0] * plan.pairs.shape[1]
    remember = torch.is_grad_enabled() and (plan.groups.requires_grad or plan.pairs.requires_grad)
    leaves = plan.pairs.to(dtype)
    mixed = []
    for groups in torch.split(plan.groups, max(1, _SCORES // keys)):
        parts = groups, blocks, leaves, plan.shared.to(dtype), near
        mixed.append(
            checkpoint(_mix_groups, *parts, use_reentrant=False)
            if remember
            else _mix_groups(*parts)
        )
    return torch.cat(mixed).flatten(0, 1)


def shares(centres: Tensor, expansion: Expansion, shared: Tensor) -> Tensor:
    """Shares (A, C) of the blocks in the whole softmax at the centres (A, D)."""
    alone = (centres @ shared[:, : centres.shape[-1]].T).logsumexp(-1, keepdim=True)
    total = torch.cat([expansion.log_weights, alone], dim=-1).logsumexp(-1, keepdim=True)
    return (expansion.log_weights - total).exp()


def _mix_groups(
    groups: Tensor, blocks: Blocks, leaves: Tensor, shared: Tensor, near: int
) -> Tensor:
    """Values (A, T, Dv) of groups (A, T, D)."""
    if near == len(leaves):
        everything = torch.cat([leaves.flatten(0, 1), shared])
        return _shared_part(groups.to(leaves.dtype), everything)[0].to(groups.dtype)
    offsets, expansion, is_near, exact = parts_of(groups, blocks, leaves, shared, near)
    return mix(offsets, expansion, is_near, blocks, exact)


def parts_of(
    groups: Tensor, blocks: Blocks, leaves: Tensor, shared: Tensor, near: int
) -> tuple[Tensor, Expansion, Tensor, list[Part]]:
    """Offsets (A, T, D), the expansion, which blocks are near (A, C), and the exact parts."""
    centres = groups.mean(1)
    offsets = groups - centres[:, None]
    expansion = expand(centres, blocks)
    seen = shares(centres, expansion, shared.to(groups.dtype))
    chosen = indicator(seen, offsets, blocks).detach().topk(near, dim=-1).indices
    is_near = torch.zeros_like(seen, dtype=torch.bool).scatter_(-1, chosen, True)
    rounded = groups.to(leaves.dtype)
    exact = [_shared_part(rounded, shared), _near_part(rounded, chosen, leaves)]
    return offsets, expansion, is_near, exact


def _shared_part(groups: Tensor, shared: Tensor) -> Part:
    mixed, weight = attend(groups.flatten(0, 1)[None], *_apart(shared[None], groups.shape[-1]))
    return mixed.view(*groups.shape[:2], -1), weight.view(groups.shape[:2])


def _near_part(groups: Tensor, chosen: Tensor, leaves: Tensor) -> Part:
    """Exact attention of every group to the blocks it chose (A, n)."""
    pairs = leaves.index_select(0, chosen.flatten())
    pairs = pairs.view(len(groups), -1, pairs.shape[-1])
    return attend(groups, *_apart(pairs, groups.shape[-1]))


def _apart(pairs: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Keys and values that stand side by side; views, not copies."""
    return pairs[..., :width], pairs[..., width:]
