"""What a plan costs: in multiplications, which do not depend on a machine, and in time.

Axes: A groups of queries, T queries of a group, C blocks, B keys of a block, D width of a key,
Dv width of a value, E = D + Dv.
"""

from __future__ import annotations

from unabridged.attention.multipole.plan import Plan

__all__ = ["evaluations", "near_for", "price"]

_CENTRE, _SELECTING, _FAR, _FETCHING = 2.3, 1.1, 1.9, 25.0
"""What it costs a group to expand a key and to tell whether it is near, a query to meet a block,
and a group to fetch a near key, in units of a key that a query meets: fitted to the times of 64
settings within 4 %, at 16,384 tokens and at 4,096, with AVX2. Telling and fetching have become
cheaper since; that concerns few heads, as one in 72 is exact at 16,384 tokens."""


def evaluations(plan: Plan, near: int, *, of_group: float | None = None) -> float:
    """Multiplications a query, in units of what one key costs an exact softmax, D + Dv.

    Near and shared keys count 1. A far block costs two products of width D, one of width Dv, and
    its share of the covariances D·Dv; a centre costs 1 and one more product of width D a key.

    Args:
        plan: of the head.
        near: keys that each group meets.
        of_group: how many queries share a centre, on average; None for all of the group.
    """
    width, both = plan.width, plan.pairs.shape[-1]
    group = of_group or plan.groups.shape[1]
    far = len(plan.pairs) * (width + both + width * (both - width) / group)
    centre = plan.keys * (width + both) / group
    return near + len(plan.shared) + (far + centre) / both


def price(plan: Plan, near: int) -> float:
    """The time that a plan takes a query, in units of a key that the query meets."""
    group, keys = plan.groups.shape[1], plan.keys
    passes = keys * (_CENTRE + _SELECTING) + near * _FETCHING if near else keys * _CENTRE
    return near + len(plan.shared) + len(plan.pairs) * _FAR + passes / group


def near_for(most: float, plan: Plan) -> int:
    """How many near keys a price pays for."""
    each = 1 + _FETCHING / plan.groups.shape[1]
    return min(plan.keys, max(0, int(1 + (most - price(plan, 1)) / each)))
