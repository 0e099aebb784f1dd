"""What recording and explaining a run would cost, before anything is spent."""

from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from unabridged.attribution.batches import Batch, Inputs, call, cast, named
from unabridged.attribution.optimizers import family_of
from unabridged.attribution.refusals import refuse_coupled_modules
from unabridged.attribution.targets import Target

__all__ = ["Estimate", "estimate"]

RANDOM_STATE = 5056
"""Bytes of torch's CPU generator state, kept for every pass of a model with dropout."""

NODES = 3
"""Gradients a test row and step; what smooth models take at the default tolerance."""


@dataclass(frozen=True)
class Estimate:
    """The price of a recording and of one ledger.

    Attributes:
        bytes: on disk.
        memory: bytes that a replay holds for one segment of steps.
        minutes: of a ledger on this machine, for the given test rows.
    """

    bytes: int
    memory: int
    minutes: float

    def __str__(self) -> str:
        """One line for people.

        >>> print(Estimate(3_000_000, 12_000_000, 0.5))
        3.0 MB on disk, 12.0 MB of memory, 0.5 minutes a ledger
        """
        disk, memory = self.bytes / 1e6, self.memory / 1e6
        sizes = f"{disk:.1f} MB on disk, {memory:.1f} MB of memory"
        return f"{sizes}, {self.minutes:.1f} minutes a ledger"


def estimate(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    tests: Inputs,
    *,
    loss: Target,
    steps: int,
    every: int = 50,
    kept: Literal["batches", "ids"] = "batches",
) -> Estimate:
    """Measure one step on copies, and multiply.

    Args:
        model: not changed.
        optimizer: not stepped.
        batch: inputs and targets of a typical step, as stored with the recording.
        tests: the rows that one ledger would explain.
        loss: (outputs, targets) → one loss a row.
        steps: of the whole training.
        every: steps between checkpoints.
        kept: what the recording holds of every step: its batch, or, with `data`, its ids alone.

    Raises:
        ValueError: what the recorder would refuse, refused here already.
    """
    refuse_coupled_modules(model)
    family = family_of(optimizer)
    trained = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
    weights = sum(p.numel() * p.element_size() for p in trained)
    size = sum(p.numel() for p in trained)
    memories = any(group.get("momentum") for group in optimizer.param_groups)
    buffers = 2 if family.kind == "adam" else int(memories)
    inputs, targets = batch
    stored = [*named(inputs).values(), targets]
    row = 8 * len(targets)
    row += sum(t.numel() * t.element_size() for t in stored) if kept == "batches" else RANDOM_STATE
    draws = any(isinstance(m, nn.Dropout) and m.p > 0 for m in model.modules())
    row += RANDOM_STATE if draws else 0
    checkpoints = 1 + math.ceil(steps / every)
    disk = checkpoints * weights * (1 + buffers) + steps * row
    seconds = steps * (2 * _seconds(model, inputs) + (NODES + 0.5) * _seconds(model, tests))
    loss_rows = loss(call(model, inputs), targets).shape
    if loss_rows != (len(targets),):
        raise ValueError(f"estimate: loss returned shape {tuple(loss_rows)}; wanted one a row.")
    return Estimate(disk, 8 * size * (4 * every + 4), seconds / 60)


def _seconds(model: nn.Module, inputs: Inputs) -> float:
    """Forward and backward of a float64 copy; the second of two runs."""
    double = copy.deepcopy(model).double()
    rows = cast(inputs, torch.float64)
    taken = 0.0
    for _ in range(2):
        began = time.perf_counter()
        outputs = call(double, rows)
        found = outputs if isinstance(outputs, torch.Tensor) else outputs[0]
        torch.autograd.backward(found.sum())
        taken = time.perf_counter() - began
    return taken
