"""Optimiser steps as the tensors of a segment file, and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from unabridged.attribution.batches import Batch, unnamed

__all__ = ["StepRecord", "pack", "unpack"]


@dataclass
class StepRecord:
    """What was seen of one optimiser step; lists have one entry a pass (micro-batch).

    Attributes:
        ids: (N,) int64 of every pass.
        batches: inputs by name, and targets; empty where they are fetched again at replay.
        fetch_states: random state before the batch was drawn, None where `fetch` was not used.
        forward_states: random state before the forward pass, None where it drew nothing.
        rates: (groups, fields) the optimiser's rates; None until it steps.
        norm: Euclidean norm of the gradient that the optimiser was given.
    """

    ids: list[Tensor] = field(default_factory=list)
    batches: list[tuple[dict[str, Tensor], Tensor]] = field(default_factory=list)
    fetch_states: list[Tensor | None] = field(default_factory=list)
    forward_states: list[Tensor | None] = field(default_factory=list)
    rates: Tensor | None = None
    norm: float = 0.0

    def stored(self, index: int) -> Batch | None:
        """The batch of pass `index`, where it was stored."""
        if not self.batches:
            return None
        inputs, targets = self.batches[index]
        return unnamed(inputs), targets


def pack(steps: list[StepRecord]) -> dict[str, Tensor]:
    """The steps of a segment as tensors; passes are numbered through from 0."""
    passes = [ids for step in steps for ids in step.ids]
    tensors = {
        "ids": torch.cat(passes),
        "rows_of_pass": torch.tensor([len(ids) for ids in passes]),
        "passes_of_step": torch.tensor([len(step.ids) for step in steps]),
        "rates": torch.stack([step.rates for step in steps if step.rates is not None]),
        "norms": torch.tensor([step.norm for step in steps], dtype=torch.float64),
    }
    for label in ("fetch_states", "forward_states"):
        states = [state for step in steps for state in getattr(step, label)]
        kept = {f"{label}/{i}": state for i, state in enumerate(states) if state is not None}
        tensors.update(kept)
    for index, (inputs, targets) in enumerate(batch for step in steps for batch in step.batches):
        tensors.update({f"inputs/{index}/{name}": tensor for name, tensor in inputs.items()})
        tensors[f"targets/{index}"] = targets
    return tensors


def unpack(tensors: Mapping[str, Tensor]) -> Iterator[StepRecord]:
    """The inverse of `pack`."""
    passes = torch.split(tensors["ids"], tensors["rows_of_pass"].tolist())
    inputs: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        if key.startswith("inputs/"):
            _, index, name = key.split("/", 2)
            inputs.setdefault(int(index), {})[name] = tensor
    start = 0
    for step, count in enumerate(tensors["passes_of_step"].tolist()):
        places = range(start, start + count)
        start += count
        yield StepRecord(
            ids=[passes[i] for i in places],
            batches=[(inputs[i], tensors[f"targets/{i}"]) for i in places if i in inputs],
            fetch_states=[tensors.get(f"fetch_states/{i}") for i in places],
            forward_states=[tensors.get(f"forward_states/{i}") for i in places],
            rates=tensors["rates"][step],
            norm=float(tensors["norms"][step]),
        )
