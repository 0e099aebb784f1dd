"""The only file that knows the attribute names of Hugging Face encoders.

Seven families share one block, written with seven sets of names; here they become one
`Architecture`, and nothing outside this file asks what a model calls its layers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from unabridged._errors import ModelError

__all__ = [
    "FAMILIES",
    "GATE",
    "Architecture",
    "Layer",
    "check_lengthenable",
    "dissect",
    "position_rows",
    "query_weights",
    "with_positions",
]

GATE = "residual_gate"
"""Name of the parameter (H,) in the attention of a residual model's layers but the first."""

PositionBias = Callable[[Tensor, Tensor], Tensor]
"""(Tq,) and (Tk,) positions to an additive bias (H, Tq, Tk) on the scaled scores."""


@dataclass(frozen=True)
class Layer:
    """One post-norm transformer block: the same eight modules under every family's names."""

    query: nn.Linear
    key: nn.Linear
    value: nn.Linear
    attention_output: nn.Linear
    attention_norm: nn.LayerNorm
    up: nn.Linear
    down: nn.Linear
    output_norm: nn.LayerNorm


@dataclass(frozen=True)
class Architecture:
    """What an encoder is made of, under the project's own names.

    Attributes:
        embed: token ids (B, T) and positions (B, T), counted from 0, to states (B, T, D).
        layers: the blocks, in order; ALBERT's shared one stands here several times.
        heads: number of attention heads H.
        activation: name of the activation in the feed-forward part.
        positions: how many positions the table holds for text and special tokens.
        position_bias: MPNet's relative bias, else None.
        gates: of a residual model, (H,) each, from the second layer on; else none.
    """

    embed: Callable[[Tensor, Tensor], Tensor]
    layers: tuple[Layer, ...]
    heads: int
    activation: str
    positions: int
    position_bias: PositionBias | None = None
    gates: tuple[Tensor, ...] = ()

    @property
    def width(self) -> int:
        """D, the width of a token state."""
        return self.layers[0].query.in_features


def dissect(model: PreTrainedModel) -> Architecture:
    """Name the parts of a loaded encoder.

    Raises:
        ModelError: the family is none of the seven, or positions are relative where the family's
            usual ones are learned.
    """
    family = model.config.model_type
    if family not in FAMILIES:
        raise ModelError(
            f"model: family {family!r} is not supported; wanted one of {', '.join(FAMILIES)}; "
            "pass a checkpoint of one of these."
        )
    kind = getattr(model.config, "position_embedding_type", "absolute")
    if kind not in (None, "absolute"):
        raise ModelError(
            f"model: position_embedding_type {kind!r} is not supported; wanted 'absolute'."
        )
    return replace(FAMILIES[family](model), gates=_gates(model))


def _gates(model: PreTrainedModel) -> tuple[Tensor, ...]:
    found: list[Any] = [module for module in model.modules() if hasattr(module, GATE)]
    return tuple(getattr(each, GATE) for each in sorted(found, key=lambda m: m.residual_layer))


def _bert(model: PreTrainedModel) -> Architecture:
    config = model.config
    return Architecture(
        embed=_embedder(model, first_position=0),
        layers=tuple(_bert_layer(layer) for layer in model.encoder.layer),
        heads=config.num_attention_heads,
        activation=config.hidden_act,
        positions=config.max_position_embeddings,
    )


def _bert_layer(layer: Any) -> Layer:  # noqa: ANN401  a module whose attributes torch cannot type
    attention = layer.attention
    return Layer(
        query=attention.self.query,
        key=attention.self.key,
        value=attention.self.value,
        attention_output=attention.output.dense,
        attention_norm=attention.output.LayerNorm,
        up=layer.intermediate.dense,
        down=layer.output.dense,
        output_norm=layer.output.LayerNorm,
    )


def _roberta(model: PreTrainedModel) -> Architecture:
    """RoBERTa keeps the rows up to and including the padding index for itself."""
    bert = _bert(model)
    first = model.config.pad_token_id + 1
    return Architecture(
        embed=_embedder(model, first_position=first),
        layers=bert.layers,
        heads=bert.heads,
        activation=bert.activation,
        positions=bert.positions - first,
    )


def _electra(model: PreTrainedModel) -> Architecture:
    bert = _bert(model)
    embed = _embedder(model, first_position=0)
    project = getattr(model, "embeddings_project", nn.Identity())
    return Architecture(
        embed=lambda ids, positions: project(embed(ids, positions)),
        layers=bert.layers,
        heads=bert.heads,
        activation=bert.activation,
        positions=bert.positions,
    )


def _distilbert(model: PreTrainedModel) -> Architecture:
    config = model.config
    layers = tuple(
        Layer(
            query=layer.attention.q_lin,
            key=layer.attention.k_lin,
            value=layer.attention.v_lin,
            attention_output=layer.attention.out_lin,
            attention_norm=layer.sa_layer_norm,
            up=layer.ffn.lin1,
            down=layer.ffn.lin2,
            output_norm=layer.output_layer_norm,
        )
        for layer in model.transformer.layer
    )
    return Architecture(
        embed=_embedder(model, first_position=0),
        layers=layers,
        heads=config.n_heads,
        activation=config.activation,
        positions=config.max_position_embeddings,
    )


def _albert(model: PreTrainedModel) -> Architecture:
    config = model.config
    encoder = model.encoder
    embed = _embedder(model, first_position=0)
    project = encoder.embedding_hidden_mapping_in
    per_group = config.num_hidden_layers / config.num_hidden_groups
    layers = [
        Layer(
            query=layer.attention.query,
            key=layer.attention.key,
            value=layer.attention.value,
            attention_output=layer.attention.dense,
            attention_norm=layer.attention.LayerNorm,
            up=layer.ffn,
            down=layer.ffn_output,
            output_norm=layer.full_layer_layer_norm,
        )
        for index in range(config.num_hidden_layers)
        for layer in encoder.albert_layer_groups[int(index / per_group)].albert_layers
    ]
    return Architecture(
        embed=lambda ids, positions: project(embed(ids, positions)),
        layers=tuple(layers),
        heads=config.num_attention_heads,
        activation=config.hidden_act,
        positions=config.max_position_embeddings,
    )


def _mpnet(model: PreTrainedModel) -> Architecture:
    config = model.config
    first = config.pad_token_id + 1
    layers = tuple(
        Layer(
            query=layer.attention.attn.q,
            key=layer.attention.attn.k,
            value=layer.attention.attn.v,
            attention_output=layer.attention.attn.o,
            attention_norm=layer.attention.LayerNorm,
            up=layer.intermediate.dense,
            down=layer.output.dense,
            output_norm=layer.output.LayerNorm,
        )
        for layer in model.encoder.layer
    )
    return Architecture(
        embed=_embedder(model, first_position=first),
        layers=layers,
        heads=config.num_attention_heads,
        activation=config.hidden_act,
        positions=config.max_position_embeddings - first,
        position_bias=_mpnet_bias(model),
    )


def _mpnet_bias(model: PreTrainedModel) -> PositionBias:
    """T5's bucketed relative positions (Raffel et al. 2020, section 2.1), as MPNet uses them."""
    table = model.encoder.relative_attention_bias
    half = table.num_embeddings // 2
    exact, furthest = half // 2, 128

    def bias(query_positions: Tensor, key_positions: Tensor) -> Tensor:
        distance = key_positions[None, :] - query_positions[:, None]  # (Tq, Tk)
        length = distance.abs()
        ratio = torch.log(length.clamp(min=1) / exact) / math.log(furthest / exact)
        far = (exact + (ratio * (half - exact)).long()).clamp(max=half - 1)
        bucket = torch.where(length < exact, length, far) + half * (distance > 0)
        scores: Tensor = table(bucket)  # (Tq, Tk, H)
        return scores.permute(2, 0, 1)

    return bias


def _embedder(model: PreTrainedModel, *, first_position: int) -> Callable[[Tensor, Tensor], Tensor]:
    """Word, position and type 0 in two look-ups: the last two never vary apart."""
    parts = model.embeddings
    words, norm = parts.word_embeddings, parts.LayerNorm
    places = parts.position_embeddings.weight[first_position:]
    if hasattr(parts, "token_type_embeddings"):
        places = places + parts.token_type_embeddings.weight[0]

    def embed(ids: Tensor, positions: Tensor) -> Tensor:
        states: Tensor = norm(words(ids) + nn.functional.embedding(positions, places))
        return states

    return embed


FAMILIES: dict[str, Callable[[PreTrainedModel], Architecture]] = {
    "bert": _bert,
    "roberta": _roberta,
    "xlm-roberta": _roberta,
    "camembert": _roberta,
    "distilbert": _distilbert,
    "electra": _electra,
    "albert": _albert,
    "mpnet": _mpnet,
}
"""The families that are supported, by their `config.model_type`."""


_TABLE = "embeddings.position_embeddings.weight"
_BUFFERS = ("embeddings.position_ids", "embeddings.token_type_ids")
_QUERY = re.compile(r"\blayer\.(\d+)\.attention\.(?:self\.query|q_lin)\.weight$")
_ROTARY = {"rope_theta", "rope_parameters", "rope_scaling", "global_rope_theta", "rotary_emb_base"}
_RELATIVE = {"relative_attention", "relative_attention_num_buckets", "pos_att_type"}


def check_lengthenable(config: Mapping[str, Any]) -> None:
    """Refuse an encoder without a table of absolute positions, by its config.json alone.

    Raises:
        ModelError: saying what its positions are instead.
    """
    family = config.get("model_type")
    kind = config.get("position_embedding_type") or "absolute"
    if family in FAMILIES and kind == "absolute":
        return
    if kind.startswith("rop") or _ROTARY & config.keys():
        reason = "its positions are rotations of queries and keys (RoPE), not rows of a table"
    elif kind.startswith("relative") or _RELATIVE & config.keys():
        reason = "its attention scores hold distances (relative positions), which no row gives"
    else:
        reason = "how it keeps its positions is not known here"
    raise ModelError(
        f"extend: a model of family {family!r} cannot be extended: {reason}; wanted absolute "
        f"positions in one of {', '.join(FAMILIES)}."
    )


def position_rows(config: PretrainedConfig, weights: Mapping[str, Tensor]) -> Tensor:
    """Rows (n, D) of the position table that text meets, of a checkpoint's named weights."""
    return weights[_table_name(weights)][_reserved_rows(config) :]


def with_positions(
    config: PretrainedConfig, weights: Mapping[str, Tensor], rows: Tensor
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What changes in config.json, and all weights, when `rows` (N, D) are the position table.

    Rows that the family keeps for itself stay before them. Buffers that older checkpoints stored
    beside the table get its length.
    """
    name = _table_name(weights)
    table = torch.cat([weights[name][: _reserved_rows(config)], rows])
    changed = dict(weights)
    changed[name] = table
    for key in weights:
        if key.endswith(_BUFFERS):
            count = torch.arange(len(table)) if key.endswith("position_ids") else torch.zeros(1)
            changed[key] = count.to(weights[key].dtype).expand(1, len(table)).contiguous()
    return {"max_position_embeddings": len(table)}, changed


def query_weights(weights: Mapping[str, Tensor]) -> list[str]:
    """Names of the query matrices of a checkpoint's named weights, in order of layers."""
    found = [(match, name) for name in weights if (match := _QUERY.search(name))]
    return [name for _, name in sorted(found, key=lambda each: int(each[0][1]))]


def _table_name(weights: Mapping[str, Tensor]) -> str:
    return next(name for name in weights if name.endswith(_TABLE))


def _reserved_rows(config: PretrainedConfig) -> int:
    counted_from_padding = FAMILIES[config.model_type] in (_roberta, _mpnet)
    return config.pad_token_id + 1 if counted_from_padding else 0
