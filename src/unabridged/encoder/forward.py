"""The forward pass over packed blocks: no padding, no mask, every row a real token.

Blocks of all documents stand one after another in one (N, D) matrix, so the linear layers see
nothing but tokens, a slice of rows at a time. Attention runs tile by tile, a tile being blocks of
one shape that stand side by side; its keys are the block's own rows, or, for a reader that looks
around, rows of neighbouring blocks too.

Axes: N rows (tokens) of a pack, B blocks of a tile, Tq and Tk query and key rows of a block,
H heads, D width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  the field's name for it
from transformers.activations import ACT2FN

from unabridged._errors import ModelError
from unabridged.attention.protocol import Attention
from unabridged.attention.residual import Carried, Residual
from unabridged.encoder.surgery import Architecture, Layer

__all__ = ["SLICE_ROWS", "Forward", "Pack", "Tile"]

SLICE_ROWS = 2048
"""Rows that pass a linear layer at once. Measured: the activations of 2,048 rows stay in the
second-level cache; 16,384 rows in one product cost a quarter of the speed."""

_PACKED_LINEAR: Any = getattr(torch.ops.mkldnn, "_linear_pointwise", None)


@dataclass(frozen=True)
class Tile:
    """Blocks of one shape, side by side in the pack.

    Attributes:
        start: first row of the tile in the pack.
        blocks: B, how many blocks.
        length: Tq, rows of each block.
        keys: (B, Tk) rows that each block attends to; None means its own.
        query_positions: (Tq,) places of the rows in the stream, for relative position biases.
        key_positions: (Tk,) the same for the keys.
        temperature: what attention scores are multiplied by, beside 1 / sqrt(D/H).
    """

    start: int
    blocks: int
    length: int
    keys: Tensor | None
    query_positions: Tensor
    key_positions: Tensor
    temperature: float = 1.0

    @property
    def rows(self) -> slice:
        """The tile's rows of the pack."""
        return slice(self.start, self.start + self.blocks * self.length)


@dataclass(frozen=True)
class Pack:
    """Token ids (N,), positions (N,) counted from 0, and the tiles that cut the rows."""

    ids: Tensor
    positions: Tensor
    tiles: Sequence[Tile]


class Forward:
    """A frozen encoder, its weights laid out once for the processor.

    Equal to the Hugging Face forward pass of the same blocks, one by one and unpadded, up to
    rounding in `dtype`.

    Args:
        architecture: the named parts of the model.
        dtype: torch.float32 or torch.bfloat16; layer norms of the embeddings stay in float32.
        attention: how values are mixed; None for PyTorch's own fused attention, or, in a model
            with gates, for residual attention.

    Raises:
        ModelError: an attention of choice for a model with relative position biases or gates.
    """

    def __init__(
        self, architecture: Architecture, dtype: torch.dtype, attention: Attention | None = None
    ) -> None:
        if attention is not None and architecture.position_bias is not None:
            raise ModelError(
                "attention: this model adds a bias of relative positions to every score (MPNet), "
                f"which {type(attention).__name__} does not know; leave the attention out."
            )
        if attention is not None and architecture.gates:
            raise ModelError(
                "attention: this model is residual, its layers hand scores on, and "
                f"{type(attention).__name__} does not take them; leave the attention out."
            )
        self._architecture = architecture
        self._dtype = dtype
        self._attention = attention
        prepared: dict[int, _Block] = {}  # ALBERT's layers are one and the same: prepare it once
        for layer in architecture.layers:
            if id(layer.query) not in prepared:
                prepared[id(layer.query)] = _Block(layer, architecture, dtype)
        self._blocks = [prepared[id(layer.query)] for layer in architecture.layers]

    @torch.inference_mode()
    def __call__(self, pack: Pack) -> Tensor:
        """Token states (N, D) of a pack, in `dtype`."""
        cut = partial(torch.split, split_size_or_sections=SLICE_ROWS)
        states = _join(
            [
                self._architecture.embed(ids[None], positions[None])[0].to(self._dtype)
                for ids, positions in zip(cut(pack.ids), cut(pack.positions), strict=True)
            ]
        )
        handed_on = [_HandedOn(self._architecture.gates) for _ in pack.tiles]
        for block in self._blocks:
            qkv = _join([block.qkv(rows) for rows in cut(states)])
            tiles = zip(pack.tiles, handed_on, strict=True)
            attended = _join([self._attend(qkv, tile, scores) for tile, scores in tiles])
            parts = zip(cut(states), cut(attended), strict=True)
            states = _join([block.mix(rows, seen) for rows, seen in parts])
        return states

    def _attend(self, qkv: Tensor, tile: Tile, scores: _HandedOn) -> Tensor:
        heads = self._architecture.heads
        own = qkv[tile.rows].view(tile.blocks, tile.length, -1)  # (B, Tq, 3D)
        query, key, value = own.chunk(3, dim=-1)
        if tile.keys is not None:
            around = qkv[tile.keys, query.shape[-1] :]  # (B, Tk, 2D)
            key, value = around.chunk(2, dim=-1)
        query, key, value = (
            part.view(tile.blocks, part.shape[1], heads, -1).transpose(1, 2)  # (B, H, T, D/H)
            for part in (query, key, value)
        )
        scale = tile.temperature / math.sqrt(query.shape[-1])
        if self._architecture.gates:
            mixed = scores.read(query, key, value, scale)
        elif self._attention is None:
            mixed = F.scaled_dot_product_attention(
                query, key, value, attn_mask=self._bias(tile), scale=scale
            )
        else:
            mixed = self._attention(query, key, value, scale=scale)
        return mixed.transpose(1, 2).reshape(tile.blocks * tile.length, -1)

    def _bias(self, tile: Tile) -> Tensor | None:
        bias = self._architecture.position_bias
        if bias is None:
            return None
        return bias(tile.query_positions, tile.key_positions)[None].to(self._dtype)


class _HandedOn:
    """What the layers of a residual model hand on, of one tile in one pass."""

    def __init__(self, gates: Sequence[Tensor]) -> None:
        self._gates = iter(gates)
        self._earlier: Carried | None = None

    def read(self, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """The next layer's mixed values (B, H, T, D/H)."""
        gate = 0.0 if self._earlier is None else next(self._gates)
        mixed, self._earlier = Residual().read(
            query, key, value, earlier=self._earlier, gate=gate, scale=scale
        )
        return mixed


class _Block:
    """One transformer block, prepared: the three projections as one product, weights laid out."""

    def __init__(self, layer: Layer, architecture: Architecture, dtype: torch.dtype) -> None:
        weight = torch.cat([part.weight for part in (layer.query, layer.key, layer.value)])
        bias = torch.cat([part.bias for part in (layer.query, layer.key, layer.value)])
        self.qkv = _linear(weight, bias, dtype)
        self._attention_output = _linear_add(layer.attention_output, dtype)
        self._attention_norm = _norm(layer.attention_norm, dtype)
        self._up = _linear_activated(layer.up, architecture.activation, dtype)
        self._down = _linear_add(layer.down, dtype)
        self._output_norm = _norm(layer.output_norm, dtype)

    def mix(self, states: Tensor, attended: Tensor) -> Tensor:
        """Everything of a block after attention, (N, D) and (N, D) to (N, D)."""
        states = self._attention_norm(self._attention_output(attended, states))
        return self._output_norm(self._down(self._up(states), states))


def _join(parts: list[Tensor]) -> Tensor:
    """Parts as one; a single part, the common case, is not copied."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _norm(norm: nn.LayerNorm, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    weight, bias = norm.weight.detach().to(dtype), norm.bias.detach().to(dtype)
    return lambda x: F.layer_norm(x, norm.normalized_shape, weight, bias, norm.eps)


def _packs(dtype: torch.dtype) -> bool:
    """Whether oneDNN's packed products are there; in bfloat16 they want AVX-512."""
    if _PACKED_LINEAR is None:
        return False
    return dtype == torch.float32 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _linear(weight: Tensor, bias: Tensor, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    weight, bias = weight.detach().to(dtype), bias.detach().to(dtype)
    if not _packs(dtype):
        return lambda x: F.linear(x, weight, bias)
    packed = _lay_out(weight)
    return lambda x: _PACKED_LINEAR(x, packed, bias, "none", [], "")


def _linear_add(linear: nn.Linear, dtype: torch.dtype) -> Callable[[Tensor, Tensor], Tensor]:
    """Product and residual sum in one pass over memory."""
    weight, bias = linear.weight.detach().to(dtype), linear.bias.detach().to(dtype)
    if not _packs(dtype):
        return lambda x, residual: F.linear(x, weight, bias) + residual
    packed = _lay_out(weight)
    return lambda x, residual: _PACKED_LINEAR.binary(x, residual, packed, bias, "add")


def _linear_activated(
    linear: nn.Linear, activation: str, dtype: torch.dtype
) -> Callable[[Tensor], Tensor]:
    """Product and activation; the exact GELU rides along with the product."""
    weight, bias = linear.weight.detach().to(dtype), linear.bias.detach().to(dtype)
    if not _packs(dtype) or activation != "gelu":
        activate = ACT2FN[activation]
        return lambda x: activate(F.linear(x, weight, bias))
    packed = _lay_out(weight)
    return lambda x: _PACKED_LINEAR(x, packed, bias, "gelu", [], "none")


def _lay_out(weight: Tensor) -> Tensor:
    """The weight in the blocked order that oneDNN's products read."""
    laid_out: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), SLICE_ROWS)
    return laid_out
