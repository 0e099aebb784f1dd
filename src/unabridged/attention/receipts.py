"""What an attention changed, head by head, measured against exact attention at sampled rows.

Nothing here holds a matrix of queries by keys: R rows meet all keys, exactly, and the error of
those rows stands for all.

Axes: B texts, H heads, N tokens, R sampled rows, D width of a head, Dv width of a value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import singledispatch

import torch
from torch import Tensor

from unabridged.attention.dispatch import Auto
from unabridged.attention.exact import Exact
from unabridged.attention.favor import Favor
from unabridged.attention.multipole import Multipole
from unabridged.attention.multipole.receipts import far_and_met
from unabridged.attention.protocol import Attention
from unabridged.attention.sampling import relative_error, sampled_rows

__all__ = ["HeadReceipt", "head_receipts", "spread_of_sums"]

_REDRAWS = 8
_PAIRED_KEYS = 16


@dataclass(frozen=True)
class HeadReceipt:
    """What one head of one layer lost.

    Attributes:
        error: |Õ - O|_F / |O|_F over the sampled rows.
        error_of_mean: the same for "replace attention by the mean value": what no attention at all
            would lose.
        spread: mean |q + k|² over all pairs, with q and k scaled by the root of the scale each. For
            plain FAVOR+ one feature has relative variance e^spread - 1.
        predicted: relative error of one weight that the features' variance foretells, before it is
            divided by the sum of its row; None for an attention without features.
        measured: relative error of sampled weights, divided, over redrawn features; None likewise.
            Somewhat below `predicted`, because the sum errs in the same direction.
        far: share of the softmax mass that lies on keys which were not held against a query one by
            one, at the centres of groups of queries; None for another attention than multipole.
        met: key evaluations of a query over all keys, finding the plan included; None likewise.
        chosen: what a dispatcher took for this head, or None.
    """

    error: float
    error_of_mean: float
    spread: float
    predicted: float | None = None
    measured: float | None = None
    far: float | None = None
    met: float | None = None
    chosen: str | None = None


def head_receipts(
    attention: Attention,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    rows: Tensor,
    scale: float | None = None,
) -> list[HeadReceipt]:
    """Receipts of all heads of one text.

    Args:
        attention: what is to be measured.
        query: (1, H, N, D).
        key: (1, H, N, D).
        value: (1, H, N, Dv).
        rows: (R,) of the queries that are compared; see `sampled_rows`.
        scale: of the products; None for 1 / sqrt(D).

    >>> q = torch.eye(3).expand(1, 2, 3, 3)
    >>> [head.error for head in head_receipts(Exact(), q, q, q, rows=torch.arange(3))]
    [0.0, 0.0]
    """
    with torch.no_grad():
        some = query[:, :, rows]
        wanted = Exact()(some, key, value, scale=scale)
        got = attention(query, key, value, scale=scale)[:, :, rows]
        mean = value.mean(2, keepdim=True).expand_as(wanted)
        heads = [
            HeadReceipt(error, floor, spread)
            for error, floor, spread in zip(
                relative_error(got, wanted)[0].tolist(),
                relative_error(mean, wanted)[0].tolist(),
                spread_of_sums(query, key, scale=scale)[0].tolist(),
                strict=True,
            )
        ]
        return _further(attention, heads, (query, key, value), rows, scale)


def spread_of_sums(query: Tensor, key: Tensor, *, scale: float | None = None) -> Tensor:
    """(B, H): the mean of |q + k|² over all pairs, q and k each scaled by the root of `scale`.

    >>> spread_of_sums(torch.ones(1, 1, 2, 4), torch.ones(1, 1, 2, 4)).item()
    8.0
    """
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    query, key = query.double(), key.double()
    across = (query.mean(2) * key.mean(2)).sum(-1)
    return factor * (_mean_square(query) + _mean_square(key) + 2 * across)


def _mean_square(x: Tensor) -> Tensor:
    return x.square().sum(-1).mean(-1)


Heads = tuple[Tensor, Tensor, Tensor]
"""Query, key and value, (1, H, N, D) each."""


@singledispatch
def _further(
    attention: object,  # noqa: ARG001  what the dispatch looks at
    heads: Sequence[HeadReceipt],
    inputs: Heads,  # noqa: ARG001
    rows: Tensor,  # noqa: ARG001
    scale: float | None,  # noqa: ARG001
) -> list[HeadReceipt]:
    """What only some attentions can tell of themselves."""
    return list(heads)


@_further.register
def _of_features(
    attention: Favor,
    heads: Sequence[HeadReceipt],
    inputs: Heads,
    rows: Tensor,
    scale: float | None,
) -> list[HeadReceipt]:
    if attention.kind == "trigonometric":
        return list(heads)
    query, key, _ = inputs
    variance = attention.predicted_variance(query, key, scale=scale)[0]
    predicted = (variance / (attention.features * attention.redraws)).sqrt().tolist()
    measured = _error_of_weights(attention, query[:, :, rows], key, scale).tolist()
    return [
        replace(head, predicted=ahead, measured=after)
        for head, ahead, after in zip(heads, predicted, measured, strict=True)
    ]


@_further.register
def _of_moments(
    attention: Multipole,
    heads: Sequence[HeadReceipt],
    inputs: Heads,
    rows: Tensor,  # noqa: ARG001
    scale: float | None,
) -> list[HeadReceipt]:
    factor = inputs[0].shape[-1] ** -0.5 if scale is None else scale
    measured = far_and_met(attention, *(part[0] for part in inputs), scale=factor)
    return [
        replace(head, far=far, met=met) for head, (far, met) in zip(heads, measured, strict=True)
    ]


@_further.register
def _of_choices(
    attention: Auto,
    heads: Sequence[HeadReceipt],
    inputs: Heads,
    rows: Tensor,  # noqa: ARG001
    scale: float | None,
) -> list[HeadReceipt]:
    chosen = attention.decide(*inputs, scale=scale).chosen[0]
    return [replace(head, chosen=name) for head, name in zip(heads, chosen, strict=True)]


def _error_of_weights(attention: Favor, query: Tensor, key: Tensor, scale: float | None) -> Tensor:
    """(H,): typical relative error of weights at some keys, over redrawn features.

    Values that are 1 at one key and 0 at all others make the output that key's weight. Typical is
    the root of the geometric mean over pairs, as in `predicted_variance`.
    """
    picked = sampled_rows(key.shape[2], _PAIRED_KEYS, seed=attention.seed)
    value = key.new_zeros(*key.shape[:3], len(picked))
    value[:, :, picked, torch.arange(len(picked))] = 1.0
    weights = Exact()(query, key, value, scale=scale)[0].double()
    squares = torch.zeros_like(weights)
    for draw in range(_REDRAWS):
        redrawn = attention.redrawn(attention.seed + draw)
        got = redrawn(query, key, value, scale=scale)[0].double()
        squares += (got / weights - 1).square() / _REDRAWS
    tiny = torch.finfo(squares.dtype).tiny
    typical: Tensor = squares.clamp_min(tiny).log().mean((-2, -1)).exp().sqrt()
    return typical
