"""Which keys stand together, which queries stand together, and which keys everybody sees.

Axes: G heads, Nq queries, Nk keys, A groups of queries, T queries of a group, C blocks, B keys of
a block, s keys that everybody sees, D width of a key, E = D + Dv a key and its value side by side.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unabridged.attention.multipole_far import Blocks, make_blocks
from unabridged.attention.multipole_tree import (
    block_count,
    coordinates,
    group_count,
    rows,
    tree_order,
)

__all__ = ["HeadPlan", "Plan", "Sizes", "make_plan"]

_DELEGATES = 32
"""Groups of queries, evenly spread over their tree, that say which keys matter to everybody."""


@dataclass(frozen=True)
class Sizes:
    """How many keys a block holds, how many queries a group, how many keys everybody sees."""

    block: int
    group: int
    shared: int


@dataclass(frozen=True, eq=False)
class HeadPlan:
    """Queries in groups and keys in blocks, of one head.

    Attributes:
        groups: (A, T, D), every query once and the rest of the last slots by repetition.
        pairs: (C, B, E), the keys of the tree, in the first D columns, and their values.
        shared: (s, E), the keys that are exact for every query.
    """

    groups: Tensor
    pairs: Tensor
    shared: Tensor

    def blocks(self) -> Blocks:
        """The blocks with their moments, which are computed at every call."""
        return make_blocks(self.pairs, self.groups)

    def coarser(self, factor: int) -> HeadPlan | None:
        """The same trees cut `factor` times as coarsely, neighbours being one; None if uneven."""
        groups, blocks = len(self.groups), len(self.pairs)
        if groups % factor or blocks % factor:
            return None
        return HeadPlan(
            self.groups.reshape(groups // factor, -1, self.groups.shape[-1]),
            self.pairs.reshape(blocks // factor, -1, self.pairs.shape[-1]),
            self.shared,
        )


@dataclass(frozen=True, eq=False)
class Plan:
    """All heads, and where each query stands among the A·T slots, (G, Nq)."""

    heads: list[HeadPlan]
    places: Tensor


def make_plan(query: Tensor, key: Tensor, value: Tensor, sizes: Sizes) -> Plan:
    """Cut one document: query (G, Nq, D), already scaled, key (G, Nk, D), value (G, Nk, Dv).

    Every leaf holds the same number of keys; what does not divide joins the shared keys, which are
    those with the largest sum of squared weights over the delegates.
    """
    slots, places = _query_slots(query.detach(), key.detach(), sizes.group)
    groups = rows(query, slots.flatten(1)).view(*slots.shape, query.shape[-1])
    wanted = min(sizes.shared, key.shape[1])
    blocks = block_count(max(1, key.shape[1] - wanted), at_least=sizes.block)
    size = max(1, (key.shape[1] - wanted) // blocks)
    pairs = torch.cat([key, value], dim=-1)
    alone, rest = _split(_importance(groups.detach(), key.detach()), blocks * size)
    tree = tree_order(rows(coordinates(key.detach(), query.detach()), rest), blocks)
    inside = rows(pairs, rest.gather(1, tree)).view(-1, blocks, size, pairs.shape[-1])
    parts = zip(groups, inside, rows(pairs, alone), strict=True)
    return Plan([HeadPlan(*part) for part in parts], places)


def _query_slots(query: Tensor, key: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Slots (G, A, T) that hold indices of queries, and where each query went (G, Nq)."""
    heads, count, _ = query.shape
    groups = group_count(count, at_most=size)
    each = -(-count // groups)
    spare = groups * each - count
    repeated = torch.arange(spare, device=query.device) * count // max(1, spare)
    index = torch.cat([torch.arange(count, device=query.device), repeated])
    centred = key - key.mean(1, keepdim=True)
    order = tree_order(coordinates(query, centred)[:, index], groups)
    slots = torch.arange(order.shape[1], device=query.device).expand_as(order)
    places = torch.empty_like(order).scatter_(1, order, slots)
    return index[order].view(heads, groups, each), places[:, :count]


def _importance(groups: Tensor, key: Tensor) -> Tensor:
    """(G, Nk): the sum over delegates of the squared weight of each key."""
    step = -(-groups.shape[1] // _DELEGATES)
    delegates = groups[:, ::step].mean(2)
    heads = zip(delegates, key, strict=True)
    return torch.stack([(some @ keys.T).softmax(-1).square().sum(0) for some, keys in heads])


def _split(importance: Tensor, inside: int) -> tuple[Tensor, Tensor]:
    """Indices of the most important keys, and of the `inside` others in their old order."""
    alone = importance.topk(importance.shape[1] - inside, dim=-1).indices
    stays = torch.ones_like(importance, dtype=torch.bool).scatter_(1, alone, False)
    rest = torch.arange(importance.shape[1], device=importance.device).expand_as(importance)[stays]
    return alone, rest.view(len(importance), inside)
