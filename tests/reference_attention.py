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


def feature_attention(log_queries, log_keys, value, *, causal=False):
    """Attention of given log features, (..., n, m) and (..., k, m), a pair at a time."""
    scores = torch.logsumexp(log_queries[..., :, None, :] + log_keys[..., None, :, :], dim=-1)
    if causal:
        n, m = scores.shape[-2:]
        later = torch.arange(m)[None] > torch.arange(n)[:, None] + m - n
        scores = scores.masked_fill(later, -torch.inf)
    return torch.softmax(scores, dim=-1) @ value


def positive_logs(x, directions):
    """The log features of FAVOR+: w·x - |x|²/2."""
    return x @ directions.mT - x.square().sum(-1, keepdim=True) / 2


def performer_attention(query, key, value, *, key_mask=None, directions, eps=1e-4):
    """What is usually computed instead of FAVOR+: the arithmetic of the common implementation.

    The keys are divided by one maximum over texts, heads and tokens; a constant is added to every
    feature; the mask falls on the values alone.
    """
    size = query.shape[-1] ** -0.25
    m = directions.shape[0]

    def features(x, largest):
        logs = (size * x) @ directions.mT
        half = (size * x).square().sum(-1, keepdim=True) / 2
        return m**-0.5 * ((logs - half - largest(logs)).exp() + eps)

    q = features(query, lambda logs: logs.amax(-1, keepdim=True))
    k = features(key, lambda logs: logs.amax())
    if key_mask is not None:
        value = value * key_mask[:, None, :, None]
    return q @ (k.mT @ value) / (q @ k.sum(-2, keepdim=True).mT)
