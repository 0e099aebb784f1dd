"""The state of a training in one file that is there whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from unabridged.training.errors import TrainingError

__all__ = ["load_into", "read_tensors", "save_whole", "tensors_of"]

_MODEL, _OPTIMIZER = "model/", "optimizer/"


def tensors_of(
    model: nn.Module, optimizer: torch.optim.Optimizer | None = None
) -> dict[str, Tensor]:
    """Parameters and buffers of a model, each once, and what its optimiser remembers of them."""
    named = dict(model.named_parameters())
    tensors = {_MODEL + name: value for name, value in (*named.items(), *model.named_buffers())}
    if optimizer is not None:
        for name, parameter in named.items():
            for key, value in optimizer.state.get(parameter, {}).items():
                if isinstance(value, Tensor):
                    tensors[f"{_OPTIMIZER}{key}/{name}"] = value
    return {name: value.detach().contiguous() for name, value in tensors.items()}


def save_whole(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write a file beside its place and then give it its name, so that a kill leaves the old one.

    Args:
        path: a .safetensors file.
        tensors: by name.
        facts: JSON, kept as the file's metadata.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    kept = {name: value.clone() for name, value in tensors.items()}  # views share memory: refused
    save_file(kept, unfinished, metadata={"facts": json.dumps(facts)})
    with unfinished.open("rb") as file:
        os.fsync(file.fileno())
    unfinished.replace(path)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], Any]:
    """What `save_whole` wrote: tensors and facts.

    Raises:
        TrainingError: the file is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, json.loads(file.metadata()["facts"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise TrainingError(
            f"training: {path} is damaged ({error}); remove it, and the training begins anew."
        ) from error


@torch.no_grad()
def load_into(
    model: nn.Module, tensors: Mapping[str, Tensor], optimizer: torch.optim.Optimizer | None = None
) -> None:
    """Set a model, and its optimiser where given, to what `tensors_of` said of them.

    Raises:
        TrainingError: the tensors are those of another model.
    """
    named = dict(model.named_parameters())
    wanted = {_MODEL + name: value for name, value in (*named.items(), *model.named_buffers())}
    found = {name: value for name, value in tensors.items() if name.startswith(_MODEL)}
    differing = sorted(
        name
        for name in wanted.keys() | found.keys()
        if name not in wanted or name not in found or wanted[name].shape != found[name].shape
    )
    if differing:
        raise TrainingError(
            f"training: the checkpoint is of another model ({len(differing)} tensors differ, the "
            f"first {differing[0].removeprefix(_MODEL)}); train it in another folder."
        )
    for name, value in wanted.items():
        value.copy_(found[name])
    if optimizer is not None:
        for key, value in tensors.items():
            if key.startswith(_OPTIMIZER):
                kind, _, name = key.removeprefix(_OPTIMIZER).partition("/")
                optimizer.state[named[name]][kind] = value.clone()
