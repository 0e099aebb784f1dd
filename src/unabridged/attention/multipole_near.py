"""Exact attention over chosen keys, with the logarithm of its normaliser.

The logarithm is what lets parts of a softmax be computed apart and joined later.

Axes: P problems, T queries of a problem, K keys of a problem, D width, Dv width of a value.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["Part", "attend"]

Part = tuple[Tensor, Tensor]
"""Values (..., T, Dv) and log-weights (..., T): a softmax over some keys and its logsumexp."""


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
    logits = query @ key.transpose(1, 2)
    weight = logits.logsumexp(-1)
    return (logits - weight[..., None]).exp() @ value, weight


def _any_grad(*tensors: Tensor) -> bool:
    return any(tensor.requires_grad for tensor in tensors)
