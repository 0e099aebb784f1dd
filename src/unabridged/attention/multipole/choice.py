"""How coarse the plan of a head may be, and how many keys must be met one by one.

Plans are tried on some queries of the head whose exact attention is known, by the code that will do
the whole head. What they err there decides; what is foretold only saves trials.

Axes: A groups of queries, T queries of a group, C blocks, B keys of a block, D width of a key,
Dv width of a value, E = D + Dv, R sampled queries.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from unabridged.attention.multipole.far import Blocks, make_blocks
from unabridged.attention.multipole.head import Field, look, mix_rows
from unabridged.attention.multipole.plan import Head, Plan
from unabridged.attention.multipole.price import evaluations, near_for, price
from unabridged.attention.multipole.survey import Survey, survey

__all__ = ["Choice", "Decision", "choose", "finest", "misses", "trial"]

_FEWEST_GROUPS = 8

_DECAY = 0.75
"""What is left of the error where groups and blocks are halved, by and large: seen in 72 heads of a
pretrained encoder at 16,384 tokens. A wrong guess costs one trial more, or a finer plan."""

_TRIALS = 8
"""With near keys. The last one has as many as may be paid for; if it fails, the head is exact."""

_AIM, _CLOSE = 0.85, 0.6
"""Shares of the tolerance: what a guess aims at, and from where on it is not improved upon."""

_POWER = 1.5
"""Of the missing factor of the error, to the factor of near keys. Single heads ask for powers from
0.7 to 6, and change on the way."""

_WORTH_IT = 0.6
"""A head that would cost more than this share of exact attention is done exactly."""


@dataclass(frozen=True, eq=False)
class Choice:
    """A plan of a head, its blocks, how many keys are near, and what that erred.

    Attributes:
        plan: groups and blocks.
        blocks: of the plan.
        near: keys that every group meets one by one.
        error: |O' - O| / |O| over the sampled queries; nan where it was not measured.
    """

    plan: Plan
    blocks: Blocks
    near: int
    error: float = math.nan

    @staticmethod
    def coarse(plan: Plan) -> Choice:
        """Without near keys."""
        return Choice(plan, make_blocks(plan.pairs, plan.groups), 0)

    @staticmethod
    def fine(seen: Survey, blocks: int, near: int) -> Choice:
        """The finest groups with so many blocks, whose moments are of what is left in them."""
        plan = seen.plan.in_blocks(blocks)
        return Choice(plan, make_blocks(plan.pairs, plan.groups, seen.weights(blocks, near)), near)

    @property
    def cost(self) -> float:
        """Key evaluations a query; see `evaluations`."""
        return evaluations(self.plan, self.near)


@dataclass(frozen=True, eq=False)
class Decision:
    """How a head is done, and what that costs.

    Attributes:
        choice: None for exact attention.
        keys: Nk, of the head.
        spent: key evaluations a query that finding the choice took.
    """

    choice: Choice | None
    keys: int
    spent: float

    @property
    def cost(self) -> float:
        """Key evaluations a query, all in all; see `evaluations`."""
        return self.spent + (self.keys if self.choice is None else self.choice.cost)


def finest(head: Head, near: int) -> Choice:
    """The finest plan, with so many near keys or with all there are; nothing is tried."""
    seen = survey(head)
    return Choice.fine(seen, head.blocks_of_at_least(head.block), min(near, seen.plan.keys))


def choose(head: Head, *, tolerance: float) -> Choice | None:
    """A cheap plan that errs at most by `tolerance` at the sampled queries; None for exact.

    First plans without near keys, from few groups and blocks on; what one errs tells how many times
    as fine the next one is. Where none is fine enough, the finest groups meet as many keys as they
    need. Where that would save little, nothing is chosen.
    """
    if not tolerance:
        return None
    affordable = _WORTH_IT * len(head.pairs)
    found, foretold = _without_near_keys(head, tolerance)
    if found is None:
        return _with_near_keys(head, tolerance, foretold, affordable)
    return found if price(found.plan, found.near) <= affordable else None


@torch.no_grad()
def misses(head: Head, choice: Choice) -> Tensor:
    """O - O' (R, Dv) at the sampled queries; the head notes what that costs."""
    field = Field.of(choice.plan, choice.blocks, choice.near, head.query.dtype)
    groups, own = torch.unique(choice.plan.groups_of(head.sample), return_inverse=True)
    centres = choice.plan.groups[groups].mean(1)
    seen = look(centres, field).of(own)
    sampled = len(own) / len(head.query)
    head.spent += sampled * evaluations(choice.plan, choice.near, of_group=len(own) / len(groups))
    return head.exact - mix_rows(head.query[head.sample][:, None], centres[own], seen, field)[:, 0]


def trial(head: Head, choice: Choice) -> Choice:
    """The same choice with its error at the sampled queries."""
    lost, size = (float(part.norm()) for part in (misses(head, choice), head.exact))
    return replace(choice, error=lost / size if lost else 0.0)


def _without_near_keys(head: Head, tolerance: float) -> tuple[Choice | None, float]:
    """The coarsest plan that was tried and served, and the error foretold for the finest plan."""
    rungs = [groups for groups in head.groups[:-1] if groups >= _FEWEST_GROUPS]
    foretold = 1.0
    while rungs:
        blocks = head.blocks_of_at_least(len(head.query) // rungs[0])
        tried = trial(head, Choice.coarse(head.plan(rungs[0], blocks)))
        if tried.error <= tolerance:
            return tried, tried.error
        foretold = tried.error * _DECAY ** len(rungs)
        steps = math.log(tolerance / tried.error) / math.log(_DECAY)
        rungs = rungs[max(1, round(steps)) :]
    return None, foretold


def _with_near_keys(
    head: Head, tolerance: float, foretold: float, affordable: float
) -> Choice | None:
    """The cheapest plan of the finest groups that was tried and served.

    Args:
        head: what is done.
        tolerance: of the error.
        foretold: what the finest plan would err without near keys, for the first guess.
        affordable: the largest price.
    """
    seen = survey(head)
    hidden = {blocks: seen.hidden(blocks) for blocks in _block_counts(head, seen.plan)}
    most = max(float(by_near[0]) for by_near in hidden.values())
    factor = foretold / most if most else 1.0
    best: Choice | None = None
    failed: Choice | None = None
    for attempt in range(_TRIALS):
        allowed = _AIM * tolerance / factor
        plan, near = min(_guesses(seen.plan, hidden, allowed), key=lambda guess: price(*guess))
        near = min(max(near, _enough(failed, tolerance)), plan.keys)
        if best is None and (price(plan, near) > affordable or attempt == _TRIALS - 1):
            # Where nearly all is hidden, guesses are poor: half of what may be paid, then all.
            near = near_for(affordable if attempt else affordable / 2, plan)
        if price(plan, near) > affordable or (failed and near <= failed.near):
            break
        tried = trial(head, Choice.fine(seen, len(plan.pairs), near))
        if tried.error > tolerance:
            failed = tried
        else:
            best, affordable = tried, 0.9 * price(plan, near)
            if tried.error > _CLOSE * tolerance:
                break
        factor = max(tried.error, 1e-9) / max(float(hidden[len(plan.pairs)][near]), 1e-9)
    return best


def _enough(failed: Choice | None, tolerance: float) -> int:
    """So many near keys as the error of fewer lets expect to serve; at most eight times as many."""
    if failed is None:
        return 0
    missing: float = (failed.error / (_AIM * tolerance)) ** _POWER
    return math.ceil(max(failed.near, 16) * min(8.0, missing))


def _block_counts(head: Head, plan: Plan) -> list[int]:
    """Numbers of blocks, from as many keys in each as a group has queries to four times that."""
    group = plan.groups.shape[1]
    return [n for n in head.blocks if group <= plan.keys // n <= 4 * group] or [head.blocks[-1]]


def _guesses(plan: Plan, hidden: dict[int, Tensor], allowed: float) -> Iterator[tuple[Plan, int]]:
    """For every number of blocks the least number of near keys that hides no more than allowed."""
    for blocks, by_near in hidden.items():
        yield plan.in_blocks(blocks), int((by_near > allowed).sum())
