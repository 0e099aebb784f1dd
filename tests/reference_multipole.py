"""The multipole engine's formula as one loop over heads and groups, with dense weights.

It takes the plan (which keys and queries stand together, which queries are sampled) from the
engine, and the axes of the second order, since a basis is not unique and no sum over axes feels
which it is. Everything else it computes its own way, one query group at a time, with the sums
written out over single keys.
"""

from __future__ import annotations

import torch

from unabridged.attention.multipole.choice import finest
from unabridged.attention.multipole.far import make_blocks
from unabridged.attention.multipole.plan import Head, Sizes


def multipole_attention(attention, query, key, value, key_mask):
    """(B, H, Nq, Dv); queries are all real, or stand at masked keys when there are as many."""
    out = []
    for q, k, v, mask in zip(query * query.shape[-1] ** -0.5, key, value, key_mask, strict=True):
        apart = [mask, ~mask] if q.shape[1] == len(mask) and not mask.all() else [slice(None)]
        heads = []
        for h in range(len(q)):
            row = torch.zeros(q.shape[1], v.shape[-1], dtype=q.dtype)
            for some in apart:
                one = q[h, some], k[h, mask], v[h, mask]
                row = row.index_put((torch.arange(len(row))[some],), _one_head(attention, *one))
            heads.append(row)
        out.append(torch.stack(heads))
    return torch.stack(out)


def _one_head(attention, q, k, v):
    head = Head(q, k, v, Sizes(attention.group, attention.block, attention.shared))
    plan = finest(head, attention.near).plan
    weights = left_weights(attention.near, head, plan)
    slots = [_one_group(attention.near, group, plan, weights) for group in plan.groups]
    mixed = torch.cat(slots)[plan.places]
    exact = (q[head.sample] @ k.T).softmax(-1) @ v
    off = (exact - mixed[head.sample]).mean(0).detach()
    return (mixed + off).clamp(v.amin(0).detach(), v.amax(0).detach())


def left_weights(near, head, plan):
    """(C, B): what keys weigh unmet, on average over groups of every eighth sampled query."""
    keys = torch.cat([plan.pairs.flatten(0, 1), plan.shared])[:, : plan.width].detach()
    total = torch.zeros(plan.pairs.shape[:2], dtype=keys.dtype)
    looked = head.sample[:: max(1, len(head.sample) // 8)]
    for row in looked:
        centre = plan.groups[plan.places[row] // plan.groups.shape[1]].mean(0).detach()
        shares = (keys @ centre).softmax(0)[: total.numel()].view(total.shape)
        total += shares * ~_met(near, centre, plan) / len(looked)
    return total + 0.01 * total.mean()


def _one_group(near, q, plan, looked):
    width = q.shape[-1]
    k, v = plan.pairs.tensor_split([width], dim=-1)  # (C, B, ·)
    own_k, own_v = plan.shared.tensor_split([width], dim=-1)
    centre = q.mean(0)
    met = _met(near, centre, plan)
    offset = q - centre
    weights = (k @ centre).exp() * ~met  # (C, B)
    total = weights.sum(1).clamp_min(1e-300)
    key_means = (weights[..., None] * k).sum(1) / total[:, None]
    value_means = (weights[..., None] * v).sum(1) / total[:, None]
    G, S, x = _moments(plan, offset, looked)
    exact = torch.cat([k[met], own_k]), torch.cat([v[met], own_v])
    weight = (q @ exact[0].T).exp()
    top, bottom = weight @ exact[1], weight.sum(1, keepdim=True)
    if not met.all():
        G_far = (total / total.sum() * G.permute(1, 2, 0)).sum(-1)
        quadratic = (x.square() @ S.T / 2).clamp_max(1.0).exp()
        far = total * (offset @ key_means.T).exp() * quadratic
        top = top + far @ value_means + far.sum(1, keepdim=True) * (offset @ G_far)
        bottom = bottom + far.sum(1, keepdim=True)
    return top / bottom


def _met(near, centre, plan):
    """(C, B): the keys of which the expansion would hide most."""
    width = centre.shape[-1]
    k = plan.pairs[..., :width]
    delta = (plan.groups - plan.groups.mean(1, keepdim=True)).flatten(0, 1)
    apart = k - k.mean(1, keepdim=True)
    hidden = (apart.flatten(0, 1) @ delta.T).square().mean(1)  # over all offsets of the head
    scores = (k @ centre).flatten() + hidden.log()
    met = torch.zeros(len(scores), dtype=torch.bool)
    met[scores.topk(min(near, len(scores))).indices] = True
    return met.view(k.shape[:2])


def _moments(plan, offset, looked):
    """Covariances (C, D, Dv) of keys and values, variances (C, D) along the axes, and x."""
    width = offset.shape[-1]
    k, v = plan.pairs.tensor_split([width], dim=-1)
    share = (looked / looked.sum(1, keepdim=True).clamp_min(1e-300))[..., None]
    flat_k, flat_v = (x - (share * x).sum(1, keepdim=True) for x in (k, v))
    G = torch.stack([(s * a).T @ b for s, a, b in zip(share, flat_k, flat_v, strict=True)])
    axes = make_blocks(plan.pairs, plan.groups, looked).axes
    duals = torch.linalg.inv(axes).T
    return G, (share * (flat_k @ duals).square()).sum(1), offset @ axes
