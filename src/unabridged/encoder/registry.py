"""Our attentions inside transformers' own models: `attn_implementation="exact"` and its like.

Attention and mask functions are registered together (by `_late_registration`): under a name
without a mask function transformers drops the padding mask and says nothing. What cannot be
computed (weights, dropout inside attention, causal or sliding masks, biases) is refused with the
reason, never left out.

The choice and its settings stand in the config as `unabridged_attention`, so `save_pretrained`
writes them into config.json and a later load applies them, if unabridged is imported. Elsewhere
the checkpoint loads as it always did, with exact attention.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel
from transformers.masking_utils import bidirectional_mask_function

from unabridged._errors import ModelError
from unabridged._late_registration import watch
from unabridged.attention.choices import ATTENTIONS, from_settings, make_attention, settings_of
from unabridged.attention.protocol import Attention
from unabridged.encoder import mpnet_attention

__all__ = [
    "SETTINGS",
    "attend",
    "attention_of",
    "padding_mask",
    "saved_attention",
    "set_attention",
    "settle",
]

SETTINGS = "unabridged_attention"
"""Name under which a config keeps what `settings_of` says."""

_SCORE_CHANGES = ("position_bias", "softcap", "s_aux", "sliding_window", "block_mask", "cache")


def set_attention(model: PreTrainedModel, attention: str | Attention) -> None:
    """Have a loaded model mix values in another way, and its config remember it.

    Args:
        model: any transformers encoder that uses transformers' attention interface, or MPNet
            ("exact" only).
        attention: one of `ATTENTIONS`, or such an attention with settings of its own.

    Raises:
        ModelError: a model that would not ask for its attention.
        ValueError: an unknown name, or an attention without one.

    >>> from transformers import BertConfig, BertModel
    >>> from unabridged.attention.exact import Exact
    >>> tiny = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8}
    >>> model = BertModel(BertConfig(vocab_size=11, num_hidden_layers=1, **tiny))
    >>> set_attention(model, Exact(tile=128))
    >>> model.config.unabridged_attention
    {'name': 'exact', 'tile': 128, 'kernel': 'auto'}
    """
    watch()
    settings = settings_of(make_attention(attention))
    parts = [part for part in model.modules() if isinstance(part, PreTrainedModel)]
    for part in parts:
        _check_model(part, settings["name"])
    for part in parts:
        setattr(part.config, SETTINGS, dict(settings))
        part.config._attn_implementation = settings["name"]


def attention_of(config: PretrainedConfig) -> Attention | None:
    """The attention that a config asks for; None where it asks for one of transformers' own."""
    name = config._attn_implementation
    return _chosen(config, name) if name in ATTENTIONS else None


def saved_attention(config: PretrainedConfig) -> Attention | None:
    """The attention that a checkpoint was saved with; None if it was saved without.

    >>> saved_attention(PretrainedConfig(unabridged_attention={"name": "exact", "tile": 128}))
    Exact(tile=128, kernel='auto')
    """
    saved = getattr(config, SETTINGS, None)
    return from_settings(saved) if saved else None


def settle(model: PreTrainedModel, requested: str | None) -> str | None:
    """The name that a model under construction shall use; its config comes to say the same.

    Args:
        model: whose config may hold saved settings.
        requested: `attn_implementation` as the user gave it; None for the saved one.

    Raises:
        ModelError: a model that would not ask for its attention.
        ValueError: settings that no attention takes.
    """
    config = model.config
    saved = getattr(config, SETTINGS, None) or {}
    name = requested if requested is not None else saved.get("name")
    if name not in ATTENTIONS:
        if requested is not None and hasattr(config, SETTINGS):
            delattr(config, SETTINGS)  # the user has chosen otherwise
        return requested
    _check_model(model, name)
    setattr(config, SETTINGS, settings_of(_chosen(config, name)))
    return name


def attend(
    name: str,
    module: Any,  # noqa: ANN401  a layer whose attributes torch cannot type
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **others: Any,  # noqa: ANN401  whatever a model passes through
) -> tuple[Tensor, None]:
    """What transformers calls in every layer; its signature is transformers'.

    Args:
        name: under which it is registered.
        module: the layer's attention, with its config.
        query: (B, H, Nq, D).
        key: (B, H, Nk, D), or fewer heads for grouped queries.
        value: like key.
        attention_mask: (B, Nk) from `padding_mask`, True = real.
        scaling: factor of the products; None for 1 / sqrt(D).
        dropout: of attention weights; refused above 0.
        others: refused where they change scores or ask for weights, else of no concern.

    Returns:
        (B, Nq, H, D) and None for the weights, which are never held.

    Raises:
        ValueError: something was asked for that this attention cannot give.
    """
    _check_call(name, module, attention_mask, dropout, others)
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = (part.repeat_interleave(groups, dim=1) for part in (key, value))
    attention = _chosen(module.config, name)
    # Members choose what they compute in; autocast would cut their sums down to half precision.
    with torch.autocast(query.device.type, enabled=False):
        mixed = attention(query, key, value, key_mask=attention_mask, scale=scaling)
    return mixed.transpose(1, 2).contiguous(), None


def padding_mask(
    *,
    attention_mask: Tensor | None,
    mask_function: Callable[..., Any],
    **_: Any,  # noqa: ANN401  lengths and offsets, which follow from the keys
) -> Tensor | None:
    """(B, Nk) as it is: of use to us is which keys are real, not a matrix of queries by keys.

    Raises:
        ValueError: the model wants more of its mask than padding: causal, sliding, packed.
    """
    if mask_function is not bidirectional_mask_function:
        raise ValueError(
            "attention: this model asks for a causal, sliding or packed mask, wanted padding "
            "alone, as an encoder that looks both ways has it; load the model with "
            "attn_implementation='sdpa'."
        )
    return attention_mask


def _chosen(config: PretrainedConfig, name: str) -> Attention:
    """With the config's settings if they are this attention's, else with the defaults."""
    saved = getattr(config, SETTINGS, None) or {}
    return from_settings(saved) if saved.get("name") == name else make_attention(name)


def _check_model(model: PreTrainedModel, name: str) -> None:
    if model.config.model_type == "mpnet":
        mpnet_attention.install(model, name)
    elif not type(model)._can_set_attn_implementation():
        raise ModelError(
            f"attention: {type(model).__name__} computes its attention itself and would ignore "
            f"{name!r}; wanted a model on transformers' attention interface, such as BERT."
        )


def _check_call(
    name: str,
    module: Any,  # noqa: ANN401
    mask: Tensor | None,
    dropout: float,
    others: dict[str, Any],
) -> None:
    change = next((key for key in _SCORE_CHANGES if others.get(key) is not None), None)
    wrong, remedy = None, "load the model with attn_implementation='sdpa' for that"
    if others.get("output_attentions"):
        wrong = "output_attentions=True needs the whole matrix of weights, which is never held"
        remedy = "load the model with attn_implementation='eager' for that"
    elif dropout > 0:
        wrong = f"dropout of {dropout} on weights needs the weights, which are never held"
        remedy = (
            "pass attention_probs_dropout_prob=0.0 (DistilBERT: attention_dropout) when loading"
        )
    elif mask is not None and (mask.ndim != 2 or mask.dtype != torch.bool):
        wrong = f"the mask has shape {tuple(mask.shape)}, {mask.dtype}, wanted (B, Nk), bool"
        remedy = "pass the tokenizer's attention_mask"
    elif _is_causal(module, others):
        wrong = "got a causal layer, wanted an encoder's, which looks both ways"
    elif change is not None:
        wrong = f"the model changes its scores by {change}, which is not known here"
    if wrong is not None:
        raise ValueError(f"attention {name!r}: {wrong}; {remedy}.")


def _is_causal(module: torch.nn.Module, others: dict[str, Any]) -> bool:
    told = others.get("is_causal")
    return bool(getattr(module, "is_causal", False) if told is None else told)
