"""MPNet, which computes its attention itself: taught to do it exactly, in linear memory.

MPNet adds a learned bias of the distance to every score (Song et al. 2020; the buckets are those
of Raffel et al. 2020, section 2.1). A sum over features or far blocks cannot take such a bias in,
because it is a function of pairs; so "exact" alone is offered, tile by tile, where transformers'
own layer holds (B, H, N, N) scores and as large a bias.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import PreTrainedModel
from transformers.models.mpnet.modeling_mpnet import MPNetEncoder, MPNetSelfAttention

from unabridged._errors import ModelError

__all__ = ["install"]

_ROWS = 256
"""Queries that meet all keys at a time, unless the config's settings say otherwise."""


def install(model: PreTrainedModel, name: str) -> None:
    """Have MPNet's layers honour the name "exact"; under any other they stay as they are.

    Raises:
        ModelError: any other name of ours.
    """
    if name != "exact":
        raise ModelError(
            f"attention: {type(model).__name__} adds a bias of relative positions to every score, "
            f"which {name!r} cannot take in; wanted 'exact' for an MPNet."
        )
    if not hasattr(MPNetEncoder.compute_position_bias, "__wrapped__"):
        MPNetEncoder.compute_position_bias = _biased_by_rows(MPNetEncoder.compute_position_bias)
        MPNetSelfAttention.forward = _attending_by_rows(MPNetSelfAttention.forward)


@dataclass(frozen=True, eq=False)
class _RowBias:
    """The bias of some queries on all keys, made when it is needed."""

    table: nn.Embedding
    bucket: Callable[[Tensor], Tensor]
    length: int
    tile: int

    def slices(self) -> Iterator[slice]:
        """All rows, some at a time."""
        return (
            slice(start, min(start + self.tile, self.length))
            for start in range(0, self.length, self.tile)
        )

    def of(self, rows: slice) -> Tensor:
        """(1, H, rows, N)."""
        places = torch.arange(self.length, device=self.table.weight.device)
        distance = places[None, :] - places[rows, None]
        bias: Tensor = self.table(self.bucket(distance))  # (rows, N, H)
        return bias.permute(2, 0, 1)[None]


def _biased_by_rows(dense: Callable[..., Tensor]) -> Callable[..., Tensor | _RowBias]:
    @wraps(dense)
    def compute_position_bias(
        self: Any,  # noqa: ANN401
        x: Tensor,
        *arguments: Any,  # noqa: ANN401
        **options: Any,  # noqa: ANN401
    ) -> Tensor | _RowBias:
        if self.config._attn_implementation != "exact":
            return dense(self, x, *arguments, **options)
        settings = getattr(self.config, "unabridged_attention", None) or {}
        return _RowBias(
            table=self.relative_attention_bias,
            bucket=self.relative_position_bucket,
            length=x.shape[1],
            tile=settings.get("tile", _ROWS),
        )

    return compute_position_bias


def _attending_by_rows(dense: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(dense)
    def forward(
        self: Any,  # noqa: ANN401
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        position_bias: Tensor | _RowBias | None = None,
        output_attentions: Any = False,  # noqa: ANN401
        **options: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        if not isinstance(position_bias, _RowBias):
            arguments = (hidden_states, attention_mask, position_bias, output_attentions)
            return dense(self, *arguments, **options)
        _check_call(self, asked_for_weights=bool(output_attentions))
        return (_attend(self, hidden_states, attention_mask, position_bias),)

    return forward


def _attend(layer: Any, states: Tensor, real: Tensor | None, bias: _RowBias) -> Tensor:  # noqa: ANN401
    query, key, value = (
        project(states).unflatten(-1, (layer.num_attention_heads, -1)).transpose(1, 2)
        for project in (layer.q, layer.k, layer.v)
    )
    hidden = None if real is None else ~real[:, None, None, :]
    mixed = []
    for rows in bias.slices():
        added = bias.of(rows).to(query.dtype)
        if hidden is not None:
            added = added.masked_fill(hidden, -torch.inf)
        mixed.append(scaled_dot_product_attention(query[:, :, rows], key, value, added))
    joined: Tensor = layer.o(torch.cat(mixed, dim=2).transpose(1, 2).flatten(2))
    return joined


def _check_call(layer: Any, *, asked_for_weights: bool) -> None:  # noqa: ANN401
    dropped = layer.dropout.p if layer.training else 0.0
    if asked_for_weights or dropped:
        asked = "output_attentions=True" if asked_for_weights else f"dropout of {dropped} on them"
        raise ValueError(
            f"attention 'exact': {asked} needs the whole matrix of weights, which is never held; "
            "load the model with attn_implementation='eager' for that."
        )
