"""What stands after the transformer: pooling, and the modules of a sentence-transformers folder."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unabridged._errors import ModelError

__all__ = ["POOLING_MODES", "Head", "load_head"]

_LEGACY_MODES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


def _weighted_mean(states: Tensor) -> Tensor:
    weights = torch.arange(1, states.shape[1] + 1, dtype=states.dtype)
    return (states * weights[:, None]).sum(1) / weights.sum()


POOLING_MODES: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda states: states.mean(1),
    "cls": lambda states: states[:, 0],
    "max": lambda states: states.amax(1),
    "mean_sqrt_len_tokens": lambda states: states.sum(1) / states.shape[1] ** 0.5,
    "weightedmean": _weighted_mean,
    "lasttoken": lambda states: states[:, -1],
}
"""Token states of equally long blocks (B, T, D) to vectors (B, D), under their names in
sentence-transformers."""


@dataclass(frozen=True)
class Head:
    """From token states to the vector that the model's authors meant.

    Attributes:
        modes: names of `POOLING_MODES`; several are concatenated.
        include_prompt: whether a prompt's tokens are pooled too.
        modules: what follows, such as Dense; each maps (B, D) to (B, D').
        normalize: whether the last step scales vectors to length 1.
        max_length: tokens, special ones included, that the model's authors let it read; None if
            they do not say.
        lowercase: whether text is lowered before the tokenizer.
        prompts: texts that stand before a text, by name.
        similarity: name of the similarity that the model was trained for.
    """

    modes: tuple[str, ...] = ("mean",)
    include_prompt: bool = True
    modules: tuple[Callable[[Tensor], Tensor], ...] = ()
    normalize: bool = False
    max_length: int | None = None
    lowercase: bool = False
    prompts: dict[str, str] = field(default_factory=dict)
    similarity: str = "cosine"

    def __call__(self, states: Tensor, prompt_rows: slice) -> Tensor:
        """Pool blocks of token states (B, T, D), any dtype, to float32 vectors (B, D')."""
        states = states.float()
        if not self.include_prompt:
            kept = [
                row
                for row in range(states.shape[1])
                if row not in range(*prompt_rows.indices(states.shape[1]))
            ]
            states = states[:, kept]
        vectors = torch.cat([POOLING_MODES[mode](states) for mode in self.modes], dim=-1)
        for module in self.modules:
            vectors = module(vectors)
        return self.finish(vectors)

    def finish(self, vectors: Tensor) -> Tensor:
        """Scale to length 1 where the model does."""
        return torch.nn.functional.normalize(vectors, dim=-1) if self.normalize else vectors


def load_head(folder: Path) -> Head:
    """Read what a folder says of pooling; a plain transformers folder gets the mean of its tokens.

    Raises:
        ModelError: a module that sentence-transformers does not ship, or one that cannot follow
            the pooling.
    """
    if not (folder / "modules.json").exists():
        return Head()
    modes: tuple[str, ...] = ("mean",)
    include_prompt, normalize = True, False
    modules: list[Callable[[Tensor], Tensor]] = []
    for entry in _json(folder / "modules.json")[1:]:
        kind = entry["type"].rpartition(".")[2]
        place = folder / entry["path"]
        normalize = kind == "Normalize"
        if kind == "Pooling":
            config = _json(place / "config.json")
            modes, include_prompt = _modes(config), config.get("include_prompt", True)
        elif kind != "Normalize":
            modules.append(_module(entry["type"], place))
        elif entry["idx"] < len(_json(folder / "modules.json")) - 1:
            modules.append(lambda x: torch.nn.functional.normalize(x, dim=-1))
    limits = _json(folder / "sentence_bert_config.json")
    config = _json(folder / "config_sentence_transformers.json")
    return Head(
        modes=modes,
        include_prompt=include_prompt,
        modules=tuple(modules),
        normalize=normalize,
        max_length=limits.get("max_seq_length"),
        lowercase=limits.get("do_lower_case", False),
        prompts={name: text for name, text in config.get("prompts", {}).items() if text},
        similarity=config.get("similarity_fn_name") or "cosine",
    )


def _modes(config: dict[str, Any]) -> tuple[str, ...]:
    named = config.get("pooling_mode")
    if named is None:
        named = [mode for key, mode in _LEGACY_MODES.items() if config.get(key)] or "mean"
    modes = (named,) if isinstance(named, str) else tuple(named)
    for mode in modes:
        if mode not in POOLING_MODES:
            raise ModelError(
                f"model: pooling mode {mode!r} is not known; wanted one of "
                f"{', '.join(POOLING_MODES)}."
            )
    return modes


def _module(kind: str, place: Path) -> Callable[[Tensor], Tensor]:
    """A module of sentence-transformers' own, such as Dense or LayerNorm, loaded by its class."""
    if not kind.startswith("sentence_transformers."):
        raise ModelError(
            f"model: module {kind} is code of the model's own, which is not run; "
            "export the model with stock modules only."
        )
    package, _, name = kind.rpartition(".")
    try:
        module = getattr(importlib.import_module(package), name).load(str(place)).eval()
    except (ImportError, AttributeError, OSError, TypeError) as error:
        raise ModelError(f"model: module {kind} in {place} does not load ({error}).") from error

    def apply(vectors: Tensor) -> Tensor:
        with torch.no_grad():
            output: Tensor = module({"sentence_embedding": vectors})["sentence_embedding"]
        return output

    return apply


def _json(path: Path) -> Any:  # noqa: ANN401  JSON is whatever it is
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ModelError(f"model: {path} is not readable JSON ({error}).") from error
