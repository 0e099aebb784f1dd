"""What the far part of a head would hide, for every size of blocks and number of near keys at once.

A block hides of a key its share of the softmax times the mean square of δ·(k - m), m the mean key
of the block. Summed over the keys that are not met, this is proportional to the error, nearly, with
a factor that is a head's own: so one trial tells what all others would say.

Axes, all of one head: R sampled queries, C blocks, B keys of a block, D width of a key.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from unabridged.attention.multipole.near import select
from unabridged.attention.multipole.plan import Head, Plan

__all__ = ["Survey", "survey"]

_ROWS = 8
"""Sampled queries whose shares are looked at."""

_STANDING_BY = 0.01
"""Of the average weight; a tenth errs up to 2 % more, nothing leaves blocks without moments."""


@dataclass(frozen=True, eq=False)
class Survey:
    """The finest groups of a head, and keys as they see them.

    Attributes:
        plan: the finest groups and blocks.
        shares: (R, C·B), of the softmax at the centres of some groups.
        seen: (C, B, D), keys in coordinates where the squared distance of two is the mean square
            of δ·(k - k') over all offsets δ.
    """

    plan: Plan
    shares: Tensor
    seen: Tensor

    def hidden(self, blocks: int) -> Tensor:
        """(C·B + 1): for every number of near keys, what is hidden with so many blocks.

        The root mean square over rows of the sum over the keys that stay far, no row counting more
        than 1.
        """
        each = np.sort(self._each(blocks).cpu().numpy(), axis=-1)
        tails = torch.from_numpy(np.cumsum(each, axis=-1)).clamp_max_(1.0).square_().mean(0).sqrt_()
        return torch.cat([tails.flip(0), tails.new_zeros(1)])

    def weights(self, blocks: int, near: int) -> Tensor:
        """What keys (blocks, B) weigh on average where they are not among so many met ones.

        Keys that every group meets say nothing of those that are left to their block. A little
        of all keys stands by for groups that were not looked at.
        """
        met = select(self._each(blocks), near)
        left = self.shares.scatter(1, met, 0.0).mean(0)
        return (left + _STANDING_BY * left.mean()).view(blocks, -1)

    def _each(self, blocks: int) -> Tensor:
        """(R, C·B): what is hidden of every key by so many blocks."""
        seen = self.seen.view(blocks, -1, self.seen.shape[-1])
        spread = (seen - seen.mean(1, keepdim=True)).square_().sum(-1).flatten()
        return self.shares * spread


def survey(head: Head) -> Survey:
    """Look at all keys from some of the finest groups. Gradients go through the plan alone."""
    return _survey(head, head.plan(head.groups[-1], head.blocks[-1]))


@torch.no_grad()
def _survey(head: Head, plan: Plan) -> Survey:
    rows = head.sample[:: max(1, len(head.sample) // _ROWS)]
    centres = plan.groups[plan.groups_of(rows)].mean(1)
    keys = plan.pairs[..., : plan.width].flatten(0, 1)
    logits = centres @ torch.cat([keys, plan.shared[:, : plan.width]]).T
    head.spent += _passes(head, len(centres))
    shares = logits.softmax(-1)[:, : len(keys)]
    offsets = (plan.groups - plan.groups.mean(1, keepdim=True)).flatten(0, 1)
    values, vectors = torch.linalg.eigh(offsets.T @ offsets / len(offsets))
    seen = keys @ (vectors * values.clamp_min(0).sqrt())
    return Survey(plan, shares, seen.view(*plan.pairs.shape[:2], -1))


def _passes(head: Head, centres: int) -> float:
    """Key evaluations a query of a pass over the keys, and of the change of their coordinates."""
    width, both = head.query.shape[-1], head.pairs.shape[-1]
    return (centres + width) * width / both * len(head.pairs) / len(head.query)
