"""Compact encoders on disk: as they are, and as the stock BERT that a post-norm one is."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerBase

from unabridged._errors import ModelError
from unabridged.attention.choices import from_settings, settings_of
from unabridged.attention.exact import Exact
from unabridged.attention.residual import Residual
from unabridged.training.compact import CompactEncoder, Shape

__all__ = ["load_compact", "save_as_bert", "save_compact", "to_bert"]

_OF_BLOCK = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "out": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "up": "intermediate.dense",
    "down": "output.dense",
    "output_norm": "output.LayerNorm",
}
_OF_MODEL = {
    "words.weight": "bert.embeddings.word_embeddings.weight",
    "places.weight": "bert.embeddings.position_embeddings.weight",
    "embedding_norm.weight": "bert.embeddings.LayerNorm.weight",
    "embedding_norm.bias": "bert.embeddings.LayerNorm.bias",
    "head.weight": "cls.predictions.transform.dense.weight",
    "head.bias": "cls.predictions.transform.dense.bias",
    "head_norm.weight": "cls.predictions.transform.LayerNorm.weight",
    "head_norm.bias": "cls.predictions.transform.LayerNorm.bias",
    "head_bias": "cls.predictions.bias",
}


def to_bert(model: CompactEncoder) -> BertForMaskedLM:
    """The stock model with the same outputs, in evaluation mode.

    A sinusoidal table becomes the rows of BERT's own; BERT's two token types are zero.

    Raises:
        ModelError: pre-norm and RealFormer are no BERTs, nor is one that attends otherwise than
            by the softmax.
    """
    shape = model.shape
    if shape.architecture != "post-norm":
        raise ModelError(
            f"to_bert: the architecture is {shape.architecture!r}, wanted 'post-norm', which alone "
            "is BERT's; use save_compact."
        )
    if not isinstance(model.attention, (Exact, Residual)):
        raise ModelError(
            f"to_bert: the model attends by {model.attention}, and a stock BERT by the softmax; "
            "use save_compact, or give it attention=Exact() and train on."
        )
    bert = BertForMaskedLM(_config(shape)).eval()
    bert.load_state_dict(_renamed(model))
    return bert


def save_as_bert(
    model: CompactEncoder,
    folder: str | os.PathLike[str],
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> Path:
    """A folder that `AutoModel` and `AutoModelForMaskedLM` load without this package.

    Raises:
        ModelError: see `to_bert`.
    """
    to_bert(model).save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    return Path(folder)


def save_compact(model: CompactEncoder, folder: str | os.PathLike[str]) -> Path:
    """Shape and attention as compact.json, weights as compact.safetensors."""
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    facts = {"version": 1, "shape": asdict(model.shape), "attention": _described(model)}
    (place / "compact.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    weights = {name: each.detach().contiguous() for name, each in model.state_dict().items()}
    save_file(weights, place / "compact.safetensors")
    return place


def load_compact(folder: str | os.PathLike[str]) -> CompactEncoder:
    """What `save_compact` wrote, in evaluation mode.

    Raises:
        ModelError: it is not there, or of another version.
    """
    place = Path(folder)
    try:
        facts = json.loads((place / "compact.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"load_compact: {place} holds no compact encoder ({error}).") from error
    if facts.get("version") != 1:
        raise ModelError(
            f"load_compact: {place} has version {facts.get('version')}, wanted 1; "
            "update unabridged."
        )
    kept = facts["attention"]
    residual = kept.get("name") == "residual"
    settings = {key: value for key, value in kept.items() if key != "name"}
    if residual and settings["attention"] is not None:
        settings["attention"] = from_settings(settings["attention"])
    attention = Residual(**settings) if residual else from_settings(kept)
    model = CompactEncoder(Shape(**facts["shape"]), seed=0, attention=attention)
    model.load_state_dict(load_file(place / "compact.safetensors"))
    return model.eval()


def _described(model: CompactEncoder) -> dict[str, object]:
    attention = model.attention
    if not isinstance(attention, Residual):
        return settings_of(attention)
    inner = None if attention.attention is None else settings_of(attention.attention)
    return {**asdict(attention), "name": "residual", "attention": inner}


def _config(shape: Shape) -> BertConfig:
    return BertConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.feed_forward,
        max_position_embeddings=shape.length,
        hidden_dropout_prob=shape.dropout,
        attention_probs_dropout_prob=0.0,
        pad_token_id=0,
    )


def _renamed(model: CompactEncoder) -> dict[str, Tensor]:
    own = model.state_dict()
    weights = {theirs: own[ours] for ours, theirs in _OF_MODEL.items()}
    for number in range(model.shape.layers):
        for ours, theirs in _OF_BLOCK.items():
            for kind in ("weight", "bias"):
                name = f"bert.encoder.layer.{number}.{theirs}.{kind}"
                weights[name] = own[f"blocks.{number}.{ours}.{kind}"]
    weights["bert.embeddings.token_type_embeddings.weight"] = torch.zeros(2, model.shape.width)
    weights["cls.predictions.decoder.weight"] = own["words.weight"]
    weights["cls.predictions.decoder.bias"] = own["head_bias"]
    return weights
