"""One head: how many blocks must be near, and the mixing itself.

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

__all__ = ["blocks_needed", "estimate", "mix_head"]

_SCORES = 2**20
"""Scores of centres against keys that are held at a time, so that they stay in cache."""
_SAMPLE = 32
"""Groups of queries, evenly spread over their tree, that an estimate looks at."""


def mix_head(plan: HeadPlan, near: int) -> Tensor:
    """Values (A·T, Dv) of all slots, every group with `near` exact blocks."""
    keys = plan.blocks.pairs.shape[0] * plan.blocks.pairs.shape[1]
    remember = torch.is_grad_enabled() and (
        plan.groups.requires_grad or plan.blocks.pairs.requires_grad
    )
    mixed = []
    for groups in torch.split(plan.groups, max(1, _SCORES // keys)):
        parts = groups, plan.blocks, plan.shared, near
        mixed.append(
            checkpoint(_mix_groups, *parts, use_reentrant=False)
            if remember
            else _mix_groups(*parts)
        )
    return torch.cat(mixed).flatten(0, 1)


@torch.no_grad()
def estimate(plan: HeadPlan) -> Tensor:
    """(C + 1): for every number of near blocks, what is expected of the error.

    The root mean square, over a sample of groups, of the indicator summed over the far blocks,
    where no block counts more than 1. Of the order of the relative error of the output, and above
    it.
    """
    groups = plan.groups[:: -(-len(plan.groups) // _SAMPLE)]
    centres = groups.mean(1)
    shares = _shares(centres, expand(centres, plan.blocks), plan.shared)
    hidden = indicator(shares, groups - centres[:, None], plan.blocks).clamp_max(1.0)
    tails = hidden.sort(dim=-1).values.cumsum(-1).flip(-1)  # T near blocks leave C - T
    rms = tails.square().mean(0).sqrt()
    return torch.cat([rms, rms.new_zeros(1)])


def blocks_needed(expected: Tensor, tolerance: float) -> int:
    """The least number of near blocks, from 1 on, of which no more error is expected than that.

    >>> blocks_needed(torch.tensor([0.9, 0.4, 0.2, 0.0]), tolerance=0.3)
    2
    """
    return max(1, int((expected > tolerance).sum()))


def _mix_groups(groups: Tensor, blocks: Blocks, shared: Tensor, near: int) -> Tensor:
    """Values (A, T, Dv) of groups (A, T, D)."""
    centres = groups.mean(1)
    offsets = groups - centres[:, None]
    expansion = expand(centres, blocks)
    shares = _shares(centres, expansion, shared)
    chosen = indicator(shares, offsets, blocks).detach().topk(near, dim=-1).indices
    is_near = torch.zeros_like(shares, dtype=torch.bool).scatter_(-1, chosen, True)
    exact = [_shared_part(groups, shared), _near_part(groups, chosen, blocks)]
    return mix(offsets, expansion, is_near, blocks, exact)


def _shares(centres: Tensor, expansion: Expansion, shared: Tensor) -> Tensor:
    """Shares (A, C) of the blocks in the whole softmax at the centres."""
    alone = (centres @ shared[:, : centres.shape[-1]].T).logsumexp(-1, keepdim=True)
    total = torch.cat([expansion.log_weights, alone], dim=-1).logsumexp(-1, keepdim=True)
    return (expansion.log_weights - total).exp()


def _shared_part(groups: Tensor, shared: Tensor) -> Part:
    mixed, weight = attend(groups.flatten(0, 1)[None], *_apart(shared[None], groups.shape[-1]))
    return mixed.view(*groups.shape[:2], -1), weight.view(groups.shape[:2])


def _near_part(groups: Tensor, chosen: Tensor, blocks: Blocks) -> Part:
    """Exact attention of every group to the blocks it chose (A, n)."""
    pairs = blocks.pairs.index_select(0, chosen.flatten())
    pairs = pairs.view(len(groups), -1, pairs.shape[-1])
    return attend(groups, *_apart(pairs, blocks.width))


def _apart(pairs: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Keys and values that stand side by side; views, not copies."""
    return pairs[..., :width], pairs[..., width:]
