"""An adapted model as a stock checkpoint: the folder that it was made from, with new weights."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel

from unabridged._errors import ModelError
from unabridged.encoder.checkpoint import Checkpoint
from unabridged.encoder.loading import read_weights
from unabridged.encoder.registry import SETTINGS
from unabridged.training.recipe import Adapted, Recipe
from unabridged.training.workplace import Workplace

__all__ = ["export", "with_trained"]

_WEIGHTS = ("*.safetensors", "*.bin", "*.index.json", "*.h5", "*.msgpack", "*.ot")
_LEFT_OUT = shutil.ignore_patterns(*_WEIGHTS, "onnx", "openvino", ".git", ".cache", "__pycache__")
_FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
_OLD_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}


def export(
    base: Checkpoint, model: PreTrainedModel, *, work: Workplace, recipe: Recipe, made: Adapted
) -> None:
    """Write the folder `made.folder`, whole or not at all.

    Args:
        base: what was trained; everything but the weights is taken over.
        model: with its new weights.
        work: where it is written first, and where the losses are drawn.
        recipe: how it was trained.
        made: what came of it.
    """
    place = work.folder / "model"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(
        base.folder, place, ignore=_without_weights(base), copy_function=shutil.copyfile
    )
    inner = place / base.transformer.relative_to(base.folder)
    weights = with_trained(read_weights(base.transformer), model)
    save_file(weights, inner / "model.safetensors", metadata={"format": "pt"})
    (inner / "model.safetensors").chmod((inner / "config.json").stat().st_mode)
    if recipe.attention is not None:
        config = json.loads((inner / "config.json").read_text(encoding="utf-8"))
        config[SETTINGS] = getattr(model.config, SETTINGS)
        (inner / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    facts = {**_facts(made), "recipe": recipe.as_json()}
    (place / "adaptation.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    shutil.copyfile(work.run / "history.svg", place / "adaptation.svg")
    card = place / "README.md"
    original = card.read_text(encoding="utf-8") if card.exists() else ""
    card.write_text(_card(original, recipe, made), encoding="utf-8")
    place.rename(made.folder)


def with_trained(stored: Mapping[str, Tensor], model: PreTrainedModel) -> dict[str, Tensor]:
    """Stored weights with those of a trained model in their places; heads stay as they are.

    Raises:
        ModelError: a trained weight has no place among them.
    """
    prefix = f"{model.base_model_prefix}."
    trained = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    names = {**{n: n for n in trained}, **{prefix + n: n for n in trained}}
    names |= {n.removeprefix(prefix): n for n in trained}
    merged, placed = {}, set()
    for name, value in stored.items():
        plain = name
        for old, new in _OLD_NAMES.items():
            plain = plain.replace(old, new)
        own = names.get(plain)
        if own is not None:
            placed.add(own)
        merged[name] = value if own is None else trained[own].to(value.dtype).clone().contiguous()
    missing = sorted(trained.keys() - placed)
    if missing:
        raise ModelError(
            f"adapt: the checkpoint has no place for {len(missing)} trained weights, the first "
            f"{missing[0]}; save the model once with transformers' save_pretrained, and adapt that."
        )
    return merged


def _without_weights(base: Checkpoint) -> Any:  # noqa: ANN401  what shutil calls
    def left_out(where: str, names: list[str]) -> set[str]:
        everywhere = {n for n in names if n in ("onnx", "openvino", ".git", ".cache")}
        return _LEFT_OUT(where, names) if Path(where) == base.transformer else everywhere

    return left_out


def _facts(made: Adapted) -> dict[str, Any]:
    known = asdict(made)
    kept = ("goal", "ended", "documents", "held_out", "steps", "loss_before", "loss", "positions")
    return {**{name: known[name] for name in kept}, "seconds": round(made.seconds, 1)}


_GOALS = {
    "masked-language": "It guessed hidden tokens of whole documents, as in its first training.",
    "distillation": "Reading whole documents at once, it learned to give every token, every window "
    "and the whole the vectors that it gave before when it read windows of {window} tokens, and to "
    "tell documents by short pieces of them.",
}


def _card(original: str, recipe: Recipe, made: Adapted) -> str:
    front = _FRONT_MATTER.match(original)
    head, rest = (front[0] + "\n", original[front.end() :]) if front else ("", original)
    facts = {
        "trained": "all weights" if recipe.trains == "all" else "position table and layer norms",
        "documents trained on / only looked at": f"{made.documents:,} / {made.held_out:,}",
        "steps, seconds": f"{made.steps:,}, {made.seconds:,.0f}",
        "learning rate at most": recipe.rate,
        "attention": recipe.attention or "exact",
        "loss on the held-out documents, before → after": f"{made.loss_before:.4f} → "
        f"{made.loss:.4f}",
        "positions, special tokens included": f"{made.positions:,}",
    }
    if recipe.residual_attention:
        facts["attention"] = (
            "residual: layers add the scores of those before, by gates that unabridged reads; "
            "elsewhere the model loads without its gates and gives other states"
        )
    table = "\n".join(f"| {key} | {value} |" for key, value in facts.items())
    below = f"\n## Card of the model before\n\n{rest.strip()}\n" if rest.strip() else ""
    return f"""{head}# Adapted to whole documents

Made by `unabridged adapt`: training was continued on somebody's own documents.
{_GOALS[made.goal].format(window=recipe.window)}

| | |
| --- | --- |
{table}

All weights may differ from those of the model before, so vectors of the two are not to be mixed.
{below}"""
