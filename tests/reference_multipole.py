"""The multipole engine's formula as one loop over heads and groups, with dense weights.

It takes the plan (which keys and queries stand together) from the engine, and computes everything
else its own way, one query group at a time, with the sums written out over single keys.
"""

from __future__ import annotations

import torch

from unabridged.attention.multipole_plan import Sizes, make_plan


def multipole_attention(attention, query, key, value, key_mask):
    """(B, H, Nq, Dv); queries are all real, or stand at masked keys when there are as many."""
    out = []
    for q, k, v, mask in zip(query * query.shape[-1] ** -0.5, key, value, key_mask, strict=True):
        rows = torch.zeros(*q.shape[:2], v.shape[-1], dtype=q.dtype)
        apart = [mask, ~mask] if q.shape[1] == len(mask) and not mask.all() else [slice(None)]
        heads = []
        for h in range(len(q)):
            row = torch.zeros_like(rows[h])
            for some in apart:
                one = q[h, some], k[h, mask], v[h, mask]
                row = row.index_put((torch.arange(len(row))[some],), _one_head(attention, *one))
            heads.append(row)
        out.append(torch.stack(heads))
    return torch.stack(out)


def _one_head(attention, q, k, v):
    sizes = Sizes(attention.block, attention.group, attention.shared)
    plan = make_plan(q[None], k[None], v[None], sizes)
    slots = [_one_group(attention, group, plan.heads[0]) for group in plan.heads[0].groups]
    mixed = torch.cat(slots)[plan.places[0]]
    return mixed.clamp(v.amin(0), v.amax(0))


def _one_group(attention, q, plan):
    width = q.shape[-1]
    k, v = plan.pairs.tensor_split([width], dim=-1)  # (C, B, ·)
    own_k, own_v = plan.shared.tensor_split([width], dim=-1)
    centre = q.mean(0)
    offset = q - centre
    weights = (k @ centre).exp()  # (C, B)
    total = weights.sum(1)
    key_means = (weights[..., None] * k).sum(1) / total[:, None]
    value_means = (weights[..., None] * v).sum(1) / total[:, None]
    flat_k, flat_v = k - k.mean(1, keepdim=True), v - v.mean(1, keepdim=True)
    G = torch.stack([a.T @ b / len(a) for a, b in zip(flat_k, flat_v, strict=True)])
    axes = plan.blocks().axes
    duals = torch.linalg.inv(axes).T
    S = (flat_k @ duals).square().mean(1)  # (C, D)
    share = total / (total.sum() + (own_k @ centre).exp().sum())
    x = offset @ axes
    spread = S @ x.square().mean(0)
    blocks, size = k.shape[:2]
    count = blocks if attention.near == "all" else min(blocks, -(-attention.near // size))
    near = torch.zeros(blocks, dtype=torch.bool)
    near[(share * spread).topk(count).indices] = True

    exact = torch.cat([k[near].flatten(0, 1), own_k]), torch.cat([v[near].flatten(0, 1), own_v])
    weight = (q @ exact[0].T).exp()
    top, bottom = weight @ exact[1], weight.sum(1, keepdim=True)
    if not near.all():
        at_centre = total[~near] / total[~near].sum()
        G_far = (at_centre[:, None, None] * G[~near]).sum(0)
        quadratic = (x.square() @ S[~near].T / 2).clamp_max(1.0).exp()
        far = total[~near] * (offset @ key_means[~near].T).exp() * quadratic
        top = top + far @ value_means[~near] + far.sum(1, keepdim=True) * (offset @ G_far)
        bottom = bottom + far.sum(1, keepdim=True)
    return top / bottom
