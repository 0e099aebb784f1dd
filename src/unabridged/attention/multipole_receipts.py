"""What multipole attention left far, and how many keys it met, head by head.

Axes: H heads, N queries, Nk keys, D width of a head, Dv width of a value, A groups of queries,
T queries of a group, C blocks of keys.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unabridged.attention.multipole import Multipole
from unabridged.attention.multipole_far import expand, indicator
from unabridged.attention.multipole_plan import HeadPlan, Sizes, make_plan

__all__ = ["far_and_met"]


@torch.no_grad()
def far_and_met(
    multipole: Multipole, query: Tensor, key: Tensor, value: Tensor, *, scale: float
) -> list[tuple[float, float]]:
    """For each head of one text its far mass, and its share of key evaluations.

    Far mass is the share of the softmax that lies in blocks which were not near, exactly computed
    for the centre of each group of queries and averaged over groups. The share counts, for a
    query, its near and shared keys and one far term a block, over all keys.

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
    >>> 0 < far < 0.5, 0 < met < 1
    (True, True)
    """
    keys = key.shape[1]
    if keys <= multipole.short or multipole.near == "all":
        return [(0.0, 1.0)] * len(query)
    sizes = Sizes(multipole.block, multipole.group, multipole.shared)
    plan = make_plan(scale * query.float(), key.float(), value.float(), sizes)
    measured = []
    for head in plan.heads:
        near = multipole._near_blocks(head)
        blocks, size = head.blocks.pairs.shape[:2]
        terms = near * size + len(head.shared) + (blocks - near)
        measured.append((_far_mass(head, near), min(1.0, terms / keys)))
    return measured


def _far_mass(head: HeadPlan, near: int) -> float:
    centres = head.groups.mean(1)
    everybody = (centres @ head.shared[:, : centres.shape[-1]].T).logsumexp(-1, keepdim=True)
    weights = expand(centres, head.blocks).log_weights
    whole = torch.cat([weights, everybody], dim=-1).softmax(-1)
    shares = whole[:, :-1]
    chosen = indicator(shares, head.groups - centres[:, None], head.blocks).topk(near).indices
    return float((shares.sum(-1) - shares.gather(-1, chosen).sum(-1)).clamp_min(0).mean())
