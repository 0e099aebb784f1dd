"""RealFormer for encoders that exist: every layer may add the scores of the layers before it.

Surgery puts one gate a head into every layer but the first. At 0, where they start, the model is
what it was, to the bit but for the order of sums; training opens them as far as they help.

What one layer hands to the next lives in an object that each call of the model makes for itself
and passes down through its layers, so two threads, nested calls and gradient checkpointing do not
meet.

Source: He et al. (2021), RealFormer, section 3; kexue.fm/archives/8027.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    PretrainedConfig,
    PreTrainedModel,
)

from unabridged._errors import ModelError
from unabridged.attention.residual import Carried, Residual
from unabridged.encoder.registry import padding_mask
from unabridged.encoder.surgery import GATE, dissect, query_weights

__all__ = [
    "GATE",
    "RESIDUAL",
    "closed_gates",
    "gates_of",
    "is_residual",
    "make_residual",
    "restore_residual",
]

RESIDUAL = "unabridged_residual"
"""Name under which a config remembers that its model is residual, and how it is computed."""

_NAME = "residual"
_PASS = "residual_pass"
_MODES = ("materialised", "tiled")
_UNABLE = {
    "albert": "its layers share one set of weights, and so could not have gates of their own",
    "mpnet": "its attention adds a bias of its own and does not ask transformers for another",
}


@dataclass
class _Pass:
    """What the layers of one forward pass have handed on, and whether it can carry gradients."""

    after: dict[int, tuple[Carried, bool]] = field(default_factory=dict)

    def before(self, layer: int) -> Carried | None:
        """What layer - 1 handed on; None for the first."""
        if layer == 0:
            return None
        scores, with_gradients = self.after[layer - 1]
        if torch.is_grad_enabled() and not with_gradients:
            raise ValueError(
                "residual attention: a layer is computed again with gradients, and what it got "
                "from the layer before has none; wanted checkpointing that keeps them: "
                "gradient_checkpointing_kwargs={'use_reentrant': False}."
            )
        return scores


def make_residual(
    model: PreTrainedModel, *, gate: float = 0.0, residual: Residual | None = None
) -> tuple[nn.Parameter, ...]:
    """Give a loaded model residual attention, in place.

    Its config remembers it, so `save_pretrained` writes gates and config, and
    `restore_residual` brings them back; without this package such a checkpoint loads as the plain
    model, which is the same model only while all gates are 0.

    Args:
        model: with or without heads; BERT, RoBERTa, XLM-R, CamemBERT, DistilBERT or ELECTRA.
        gate: where every gate starts: 0 is the model as it is, 1 the RealFormer of the paper.
        residual: how to compute it, "tiled" or "materialised"; None for `Residual()`. The dropout
            of probabilities is the model's own.

    Returns:
        The gates, (H,) each, from the second layer on; parameters of the model.

    Raises:
        ModelError: the family is unable to, or the model is residual already.
        ValueError: a mode without gradients.

    >>> from transformers import BertConfig, BertModel
    >>> tiny = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8}
    >>> model = BertModel(BertConfig(vocab_size=11, num_hidden_layers=3, **tiny)).eval()
    >>> ids = torch.arange(5)[None]
    >>> before = model(ids).last_hidden_state
    >>> [gate.tolist() for gate in make_residual(model)]
    [[0.0, 0.0], [0.0, 0.0]]
    >>> torch.testing.assert_close(model(ids).last_hidden_state, before)
    """
    residual = Residual() if residual is None else residual
    if residual.mode not in _MODES or residual.dropout:
        raise ValueError(
            f"make_residual: got {residual}; wanted mode {' or '.join(_MODES)} and no dropout, "
            "which is the model's own."
        )
    body = model.base_model
    attentions = _attentions(body)
    _register()
    heads = dissect(body).heads
    for number, attention in enumerate(attentions):
        attention.residual_layer = number
        if number:
            start = torch.full((heads,), float(gate), dtype=_dtype(attention))
            attention.register_parameter(GATE, nn.Parameter(start))
    body.register_forward_pre_hook(_begin_pass, with_kwargs=True)
    for part in (part for part in model.modules() if isinstance(part, PreTrainedModel)):
        setattr(part.config, RESIDUAL, {"mode": residual.mode, "tile": residual.tile})
        part.config._attn_implementation = _NAME
    return gates_of(model)


def _dtype(attention: nn.Module) -> torch.dtype:
    return next(attention.parameters()).dtype


def gates_of(model: nn.Module) -> tuple[nn.Parameter, ...]:
    """The gates of a residual model, in order of layers; none of a plain one."""
    found: list[Any] = [module for module in model.modules() if hasattr(module, GATE)]
    return tuple(getattr(each, GATE) for each in sorted(found, key=lambda m: m.residual_layer))


def is_residual(config: Any) -> bool:  # noqa: ANN401  a config or the mapping in its file
    """Whether a config says that its model is residual."""
    if isinstance(config, Mapping):
        return RESIDUAL in config
    return hasattr(config, RESIDUAL)


def restore_residual(model: PreTrainedModel, folder: Path) -> tuple[nn.Parameter, ...]:
    """Make a freshly loaded model residual again if its folder says so.

    Args:
        model: what `from_pretrained(folder)` gave: everything but the gates.
        folder: with config.json and the weights.

    Returns:
        The gates; none where the folder holds a plain model.

    Raises:
        ModelError: the folder says residual, and holds no gates.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if not is_residual(config):
        return ()
    gates = make_residual(model, residual=Residual(**config[RESIDUAL]))
    stored = _stored_gates(folder)
    if len(stored) != len(gates):
        raise ModelError(
            f"model: {folder} is a residual one and holds {len(stored)} gates, wanted "
            f"{len(gates)}; copy the whole folder again."
        )
    with torch.no_grad():
        for gate, name in zip(gates, _gate_names(model), strict=True):
            ending = name.removeprefix(f"{model.base_model_prefix}.")
            gate.copy_(next(each for key, each in stored.items() if key.endswith(ending)))
    return gates


def closed_gates(config: PretrainedConfig, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Gates at 0, by the names that they have among a plain checkpoint's weights.

    Raises:
        ModelError: the family is unable to be residual, or the weights hold gates already.
    """
    _check_able(config)
    if any(name.endswith(GATE) for name in weights):
        raise ModelError("residual attention: the checkpoint has gates already; leave it out.")
    names = query_weights(weights)[1:]
    heads = config.num_attention_heads
    return {
        f"{name.removesuffix('.weight').rpartition('.')[0]}.{GATE}": torch.zeros(heads)
        for name in names
    }


def _check_able(config: PretrainedConfig) -> None:
    family = config.model_type
    if family in _UNABLE:
        raise ModelError(
            f"residual attention: {family} is unable to have it: {_UNABLE[family]}; wanted BERT, "
            "RoBERTa, XLM-R, CamemBERT, DistilBERT or ELECTRA."
        )


def _gate_names(model: nn.Module) -> list[str]:
    """In order of layers."""
    order = {id(gate): place for place, gate in enumerate(gates_of(model))}
    named = [
        (order[id(each)], name) for name, each in model.named_parameters() if id(each) in order
    ]
    return [name for _, name in sorted(named)]


def _stored_gates(folder: Path) -> dict[str, Tensor]:
    files = sorted(folder.glob("*.safetensors"))
    weights = {name: each for file in files for name, each in load_file(file).items()}
    return {name: each for name, each in weights.items() if name.endswith(GATE)}


def _attentions(body: PreTrainedModel) -> list[Any]:
    """The modules that ask transformers for attention, in order of layers."""
    _check_able(body.config)
    architecture = dissect(body)
    if gates_of(body):
        raise ModelError("make_residual: the model is residual already; set its gates instead.")
    owners = {id(child): module for module in body.modules() for child in module.children()}
    return [owners[id(layer.query)] for layer in architecture.layers]


def _register() -> None:
    AttentionInterface.register(_NAME, _attend)
    AttentionMaskInterface.register(_NAME, padding_mask)


def _begin_pass(
    module: nn.Module,  # noqa: ARG001  the signature of a hook
    arguments: tuple[Any, ...],
    options: dict[str, Any],
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return arguments, {**options, _PASS: _Pass()}


def _attend(
    module: Any,  # noqa: ANN401  a layer whose attributes torch cannot type
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **others: Any,  # noqa: ANN401  whatever a model passes through
) -> tuple[Tensor, None]:
    """What transformers calls in every layer; (B, H, T, D) each to (B, T, H, D)."""
    current: _Pass | None = others.get(_PASS)
    if current is None:
        raise ValueError(
            "residual attention: a layer was called outside of its model, where no scores are "
            "handed on; call the model."
        )
    if others.get("output_attentions"):
        raise ValueError(
            "residual attention: output_attentions=True needs the whole matrix of weights, which "
            "is never held; load the plain model with attn_implementation='eager' for that."
        )
    layer = module.residual_layer
    residual = replace(Residual(**getattr(module.config, RESIDUAL)), dropout=dropout)
    mixed, after = residual.read(
        query,
        key,
        value,
        earlier=current.before(layer),
        gate=getattr(module, GATE, 0.0),
        key_mask=attention_mask,
        scale=scaling,
        seed=int(torch.randint(1 << 62, ())) if dropout else 0,
    )
    current.after[layer] = (after, torch.is_grad_enabled())
    return mixed.transpose(1, 2).contiguous(), None
