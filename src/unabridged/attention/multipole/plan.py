"""Which keys stand together, which queries stand together, and which keys everybody sees.

Axes, all of one head: Nq queries, Nk keys, A groups of queries, T queries of a group, C blocks,
B keys of a block, s keys that everybody sees, D width of a key, Dv width of a value, E = D + Dv a
key and its value side by side, R sampled queries.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from unabridged.attention.multipole.tree import Tree, block_count, coordinates, group_count
from unabridged.attention.sampling import sampled_rows

__all__ = ["Head", "Plan", "Sizes"]

_SAMPLE = 64
"""Queries whose exact attention says which keys matter to everybody, and what a plan errs. With 32,
plans were taken that erred four times as much elsewhere: some heads err rarely and then much. With
128 from 8,192 queries on, pooled vectors were no better."""


@dataclass(frozen=True)
class Sizes:
    """At the finest: queries of a group, at most; keys of a block, at least; keys for everybody.

    None is half the root of the number of keys for groups, and four groups for blocks: then the
    passes at the centres and the blocks cost of the order of n^1.5, and so do near keys.
    """

    group: int | None
    block: int | None
    shared: int

    def of_group(self, keys: int) -> int:
        """T."""
        return self.group or max(8, math.isqrt(keys // 4))

    def of_block(self, keys: int) -> int:
        """B."""
        return self.block or 4 * self.of_group(keys)


@dataclass(frozen=True, eq=False)
class Plan:
    """Queries in groups and keys in blocks.

    Attributes:
        groups: (A, T, D), every query once and the rest of the last slots by repetition.
        pairs: (C, B, E), the keys of the tree, in the first D columns, and their values.
        shared: (s, E), the keys that are exact for every query.
        places: (Nq,), where each query stands among the A·T slots.
    """

    groups: Tensor
    pairs: Tensor
    shared: Tensor
    places: Tensor

    @property
    def width(self) -> int:
        """D."""
        return self.groups.shape[-1]

    @property
    def keys(self) -> int:
        """C·B."""
        return self.pairs.shape[0] * self.pairs.shape[1]

    def groups_of(self, queries: Tensor) -> Tensor:
        """Which groups (R,) some queries (R,) stand in."""
        return self.places[queries] // self.groups.shape[1]

    def in_blocks(self, blocks: int) -> Plan:
        """The same with fewer blocks, neighbours joined to one."""
        return replace(self, pairs=self.pairs.reshape(blocks, -1, self.pairs.shape[-1]))


class Head:
    """Queries, already scaled, keys and values of one head, and trees over both.

    Every leaf of the keys' tree holds the same number of keys; what does not divide joins the
    shared keys, which are those with the largest sum of squared weights over sampled queries.

    Attributes:
        query: (Nq, D).
        pairs: (Nk, E), keys and values side by side.
        sample: (R,), the sampled queries.
        exact: (R, Dv), what exact attention makes of them.
        spent: key evaluations a query that getting to know the head has taken so far.
        block: keys of a block of the finest plan, at least.
        groups: numbers of groups that can be had, ascending.
        blocks: numbers of blocks that can be had, ascending.
    """

    def __init__(self, query: Tensor, key: Tensor, value: Tensor, sizes: Sizes) -> None:
        self.query = query
        self.pairs = torch.cat([key, value], dim=-1)
        self.block = sizes.of_block(len(key))
        self._prepare(query.detach(), key.detach(), value.detach(), sizes)

    @torch.no_grad()
    def _prepare(self, query: Tensor, key: Tensor, value: Tensor, sizes: Sizes) -> None:
        count, keys = len(query), len(key)
        self.sample = sampled_rows(count, _SAMPLE).to(query.device)
        weights = (query[self.sample] @ key.T).softmax(-1)
        self.spent = keys * len(self.sample) / count
        self.exact = weights @ value
        points, others = coordinates(query, key - key.mean(0)), coordinates(key, query)
        self._repeated, self._queries = _query_tree(points, sizes.of_group(keys))
        wanted = min(sizes.shared, keys)
        least = min(sizes.of_group(keys), self.block)
        blocks = block_count(max(1, keys - wanted), at_least=least)
        inside = max(1, (keys - wanted) // blocks) * blocks
        self._alone, self._rest = _split(weights.square().sum(0), inside)
        self._keys = Tree(others[self._rest], blocks)
        self.groups, self.blocks = self._queries.counts, self._keys.counts

    def blocks_of_at_least(self, keys: int) -> int:
        """The largest number of blocks with so many keys in each, or the smallest there is."""
        inside = len(self._rest)
        return max((n for n in self.blocks if inside // n >= keys), default=self.blocks[0])

    def plan(self, groups: int, blocks: int) -> Plan:
        """So many groups and blocks, out of `self.groups` and `self.blocks`."""
        order = self._queries.order(groups)
        slots = self._repeated[order]
        places = torch.empty_like(order)
        places[order] = torch.arange(len(order), device=order.device)
        inside = self._rest[self._keys.order(blocks)]
        return Plan(
            self.query.index_select(0, slots).view(groups, -1, self.query.shape[-1]),
            self.pairs.index_select(0, inside).view(blocks, -1, self.pairs.shape[-1]),
            self.pairs.index_select(0, self._alone),
            places[: len(self.query)],
        )


def _query_tree(points: Tensor, size: int) -> tuple[Tensor, Tree]:
    """The indices of queries, some twice so that they divide, and a tree over these."""
    count = len(points)
    groups = group_count(count, at_most=size)
    spare = groups * -(-count // groups) - count
    every = torch.arange(count, device=points.device)
    index = torch.cat([every, every[:spare] * count // max(1, spare)])
    return index, Tree(points[index], groups)


def _split(importance: Tensor, inside: int) -> tuple[Tensor, Tensor]:
    """Indices of the most important keys, and of the `inside` others in their old order."""
    alone = importance.topk(len(importance) - inside).indices
    stays = torch.ones_like(importance, dtype=torch.bool).index_fill_(0, alone, False)
    return alone, stays.nonzero()[:, 0]
