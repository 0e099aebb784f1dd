"""Slow, obvious attention: whole matrices, one formula each. Also what others compute instead."""

from __future__ import annotations

import torch


def softmax_attention(query, key, value, *, key_mask=None, causal=False, scale=None):
    """Softmax of all scores, row by row; a row that sees no key is zero."""
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    scores = scale * torch.einsum("bhid,bhjd->bhij", query, key)
    seen = torch.ones_like(scores, dtype=torch.bool)
    if key_mask is not None:
        seen = seen & key_mask[:, None, None, :]
    if causal:
        n, m = scores.shape[-2:]
        seen = seen & (torch.arange(m)[None] <= torch.arange(n)[:, None] + m - n)
    weights = torch.softmax(scores.masked_fill(~seen, -torch.inf), dim=-1)
    weights = torch.where(seen.any(-1, keepdim=True), weights, torch.zeros_like(weights))
    return torch.einsum("bhij,bhjv->bhiv", weights, value)
