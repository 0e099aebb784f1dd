"""RealFormer by its definition: scores are summed whole, then masked once, then softened."""

from __future__ import annotations

import torch


def residual_attention(queries, keys, values, *, gates, key_mask=None, causal=False):
    """Outputs of a stack of layers that all read the same inputs: list of (B, H, Nq, Dv)."""
    total, outputs = 0.0, []
    for query, key, value, gate in zip(queries, keys, values, gates, strict=True):
        own = torch.einsum("bhid,bhjd->bhij", query, key) / query.shape[-1] ** 0.5
        total = own + torch.as_tensor(gate, dtype=own.dtype).reshape(-1, 1, 1) * total
        hidden = torch.zeros_like(own, dtype=torch.bool)
        if key_mask is not None:
            hidden = hidden | ~key_mask[:, None, None, :]
        if causal:
            rows, columns = own.shape[-2:]
            later = torch.ones(rows, columns, dtype=torch.bool).triu(1 + columns - rows)
            hidden = hidden | later
        seeing = ~hidden.all(dim=-1, keepdim=True)
        weights = torch.softmax(total.masked_fill(hidden & seeing, -torch.inf), dim=-1)
        outputs.append(weights.masked_fill(~seeing, 0.0) @ value)
    return outputs
