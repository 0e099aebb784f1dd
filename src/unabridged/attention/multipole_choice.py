"""How coarse the blocks of a head may be, and how many of them must be near.

Axes: A groups of queries, T queries of a group, C blocks, B keys of a block.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unabridged.attention.multipole_far import Blocks, expand, indicator
from unabridged.attention.multipole_head import shares
from unabridged.attention.multipole_plan import HeadPlan

__all__ = ["Choice", "blocks_needed", "choose", "estimate", "evaluations"]

_SAMPLE = 32
"""Groups of queries, evenly spread over their tree, that an estimate looks at."""

_WORTH_IT = 0.6
"""A head that would evaluate more than this share of all keys is exact: keys in their own order
need not be gathered."""


@dataclass(frozen=True, eq=False)
class Choice:
    """A plan of a head, its blocks, how many of them are near, and the error then expected."""

    plan: HeadPlan
    blocks: Blocks
    near: int
    expected: float

    @property
    def cost(self) -> float:
        """Key evaluations a query; see `evaluations`."""
        return evaluations(self.plan, self.near)


def choose(plan: HeadPlan, *, tolerance: float, levels: int) -> Choice:
    """The cheapest of some levels of the trees that is expected to err at most by `tolerance`.

    Coarse levels come first, and a finer one is looked at only if it could be cheaper. Where even
    the cheapest saves little, all blocks are near.
    """
    best = None
    for level in range(levels - 1, -1, -1):
        coarse = plan.coarser(2**level)
        if coarse is None or (best is not None and evaluations(coarse, 1) >= best.cost):
            continue
        blocks = coarse.blocks()
        expected = estimate(coarse, blocks)
        near = blocks_needed(expected, tolerance)
        found = Choice(coarse, blocks, near, float(expected[near]))
        if best is None or found.cost < best.cost:
            best = found
    assert best is not None  # level 0 divides
    count = len(best.plan.pairs)
    if best.cost > _WORTH_IT * evaluations(best.plan, count):
        return Choice(best.plan, best.blocks, count, 0.0)
    return best


def evaluations(plan: HeadPlan, near: int) -> float:
    """Multiplications a query, in units of what one key costs an exact softmax, D + Dv.

    Near and shared keys count 1. A far block costs two products of width D, one of width Dv, and
    its share of the covariances D·Dv; a centre costs 1 and one more product of width D a key.
    Where all blocks are near there is nothing else.
    """
    width, both = plan.groups.shape[-1], plan.pairs.shape[-1]
    group, (count, size) = plan.groups.shape[1], plan.pairs.shape[:2]
    if near == count:
        return float(count * size + len(plan.shared))
    far = count * (width + both + width * (both - width) / group)
    centre = count * size * (width + both) / group
    return near * size + len(plan.shared) + (far + centre) / both


@torch.no_grad()
def estimate(plan: HeadPlan, blocks: Blocks) -> Tensor:
    """(C + 1): for every number of near blocks, what is expected of the error.

    The root mean square, over a sample of groups, of the indicator summed over the far blocks,
    where no block counts more than 1. Of the order of the relative error of the output, and above
    it.
    """
    groups = plan.groups[:: -(-len(plan.groups) // _SAMPLE)]
    centres = groups.mean(1)
    seen = shares(centres, expand(centres, blocks), plan.shared)
    hidden = indicator(seen, groups - centres[:, None], blocks).clamp_max(1.0)
    tails = hidden.sort(dim=-1).values.cumsum(-1).flip(-1)  # n near blocks leave C - n
    rms = tails.square().mean(0).sqrt()
    return torch.cat([rms, rms.new_zeros(1)])


def blocks_needed(expected: Tensor, tolerance: float) -> int:
    """The least number of near blocks, from 1 on, of which no more error is expected than that.

    >>> blocks_needed(torch.tensor([0.9, 0.4, 0.2, 0.0]), tolerance=0.3)
    2
    """
    return max(1, int((expected > tolerance).sum()))
