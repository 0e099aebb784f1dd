"""What multipole attention left far, and how many keys it met, head by head.

Axes: H heads, N queries, Nk keys, D width of a head, Dv width of a value, A groups of queries,
T queries of a group, C blocks of keys.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unabridged.attention.multipole.choice import Choice
from unabridged.attention.multipole.engine import Multipole
from unabridged.attention.multipole.head import Field, look

__all__ = ["far_and_met"]


@torch.no_grad()
def far_and_met(
    multipole: Multipole, query: Tensor, key: Tensor, value: Tensor, *, scale: float
) -> list[tuple[float, float]]:
    """For each head of one text its far mass, and its share of key evaluations.

    Far mass is the share of the softmax on keys that were not met one by one, exactly computed for
    the centre of each group of queries and averaged over groups. The share is that of
    `Decision.cost`, finding the plan included, over all keys: above 1 where a head is done exactly.

    Args:
        multipole: the settings.
        query: (H, N, D).
        key: (H, Nk, D).
        value: (H, Nk, Dv).
        scale: of the products.

    >>> q = torch.eye(8)[None]
    >>> small = Multipole(near=2, block=2, group=2, shared=2, short=0)
    >>> far_and_met(Multipole(), q, q, q, scale=1.0)
    [(0.0, 1.0)]
    >>> [(far, met)] = far_and_met(small, q, q, q, scale=1.0)
    >>> 0 < far < 0.5, 1 < met  # eight keys are too few for blocks to pay
    (True, True)
    """
    keys = key.shape[1]
    if keys <= multipole.short or multipole.near == "all":
        return [(0.0, 1.0)] * len(query)
    decided = multipole.decisions(scale * query.float(), key.float(), value.float())
    return [(_far_mass(one.choice), one.cost / keys) for one in decided]


def _far_mass(one: Choice | None) -> float:
    if one is None:
        return 0.0
    centres, shared = one.plan.groups.mean(1), one.plan.shared
    field = Field.of(one.plan, one.blocks, one.near, shared.dtype)
    far = look(centres, field).expansion.log_weights.logsumexp(-1)
    every = (centres @ field.pairs[:, : one.plan.width].T).logsumexp(-1)
    alone = (centres @ shared[:, : one.plan.width].T).logsumexp(-1)
    return float((far - torch.logaddexp(every, alone)).exp().mean())
