"""Which keys a group of queries meets one by one, and what it makes of them.

Axes: A groups, T queries of a group, N keys, m keys that a group meets, D width of a key, Dv width
of a value, E = D + Dv; P problems, K keys of a problem.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Part", "attend", "join", "meet", "select"]

Part = tuple[Tensor, Tensor]
"""Values (..., T, Dv) and log-weights (..., T): a softmax over some keys and its logsumexp."""

_SAMPLED = 8
"""One score in so many is looked at first."""

_GATHERED = 2**18
"""Numbers that are gathered at a time: 1 MB, of which the kernel reads each T times. Tiles of 4 MB
were given back to the system and mapped anew each time, for a sixth of all attention."""


def select(scores: Tensor, count: int) -> Tensor:
    """Indices (A, count), ascending, of the largest of scores (A, N).

    Every eighth score tells each row's level above which its largest are, and little else. That is
    three to four times as fast as a selection among all (numpy's, which is itself faster than
    torch's), and the indices come out in order, in which they are gathered faster.
    """
    if not count:
        return torch.empty(len(scores), 0, dtype=torch.long, device=scores.device)
    rows = scores.cpu().numpy()
    sample = rows[:, ::_SAMPLED]
    # Four standard deviations below where the level is expected.
    rank = math.ceil(count / _SAMPLED + 4 * math.sqrt(count / _SAMPLED)) + 4
    place = sample.shape[1] - rank
    if place > 0:
        levels = np.partition(sample, place, axis=-1)[:, place]
        found = [_largest_above(*row, count) for row in zip(rows, levels, strict=True)]
    else:
        found = [_largest(row, count) for row in rows]
    return torch.from_numpy(np.stack(found)).to(scores.device)


def _largest_above(scores: NDArray[Any], level: float, count: int) -> NDArray[np.intp]:
    """Of the scores (N,) that reach a level; of all, where these are too few."""
    above = np.flatnonzero(scores >= level)
    if len(above) < count:
        return _largest(scores, count)
    return above[_largest(scores[above], count)]


def _largest(scores: NDArray[Any], count: int) -> NDArray[np.intp]:
    """Ascending indices (count,) of the largest of scores (N,); of equal ones the first."""
    spare = len(scores) - count
    kept = np.flatnonzero(scores >= np.partition(scores, spare)[spare])
    if len(kept) != count:  # equal ones, or nan
        kept = np.sort(np.argsort(-scores, kind="stable")[:count])
    return kept


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
