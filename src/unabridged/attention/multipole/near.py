"""Which keys a group of queries meets one by one, and what it makes of them.

Axes: A groups, T queries of a group, N keys, m keys that a group meets, D width of a key, Dv width
of a value, E = D + Dv; P problems, K keys of a problem.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

__all__ = ["Part", "attend", "join", "meet", "select"]

Part = tuple[Tensor, Tensor]
"""Values (..., T, Dv) and log-weights (..., T): a softmax over some keys and its logsumexp."""

_GATHERED = 2**20
"""Numbers that are gathered at a time: 4 MB, of which the kernel reads each T times."""


def select(scores: Tensor, count: int) -> Tensor:
    """Indices (A, count), ascending, of the largest of scores (A, N)."""
    keys = scores.shape[1]
    # numpy's selection takes a third of the time of torch's; ascending rows are gathered faster.
    best = np.argpartition(scores.cpu().numpy(), keys - count, axis=-1)[:, keys - count :]
    best.sort(axis=-1)
    return torch.from_numpy(best).to(scores.device)


def meet(groups: Tensor, pairs: Tensor, chosen: Tensor) -> Part:
    """Exact attention of groups (A, T, D) to the pairs (N, E) that each chose (A, m)."""
    width = groups.shape[-1]
    step = max(1, _GATHERED // (chosen.shape[1] * pairs.shape[1]))
    parts = []
    for some, index in zip(torch.split(groups, step), torch.split(chosen, step), strict=True):
        gathered = pairs.index_select(0, index.flatten()).view(*index.shape, -1)
        parts.append(attend(some, gathered[..., :width], gathered[..., width:]))
    values, weights = zip(*parts, strict=True)
    return torch.cat(values), torch.cat(weights)


def attend(query: Tensor, key: Tensor, value: Tensor) -> Part:
    """Softmax mixtures (P, T, Dv) of values (P, K, Dv) and their log-weights (P, T).

    Products are not scaled. Without gradients and with values as wide as keys, PyTorch's fused
    kernel for processors does it in one call; otherwise three products and a softmax do.
    """
    fused = (
        query.device.type == "cpu"
        and query.shape[-1] == value.shape[-1]
        and not (torch.is_grad_enabled() and _any_grad(query, key, value))
    )
    if fused:
        mixed, weight = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query[:, None], key[:, None], value[:, None], scale=1.0
        )
        return mixed[:, 0], weight.view(query.shape[:2])
    logits = query @ key.mT
    weight = logits.logsumexp(-1)
    return (logits - weight[..., None]).exp() @ value, weight


def join(parts: list[Part]) -> Tensor:
    """Values (..., T, Dv) of the softmax over everything that the parts are softmaxes over."""
    weights = torch.stack([weight for _, weight in parts]).softmax(0)[..., None]
    mixed: Tensor = sum(share * values for share, (values, _) in zip(weights, parts, strict=True))
    return mixed


def _any_grad(*tensors: Tensor) -> bool:
    return any(tensor.requires_grad for tensor in tensors)
