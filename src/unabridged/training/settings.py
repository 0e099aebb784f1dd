"""What a training is told, and what it tells: plain values, nothing that computes."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import torch

from unabridged.training.schedule import Schedule

__all__ = ["Ended", "Precision", "Settings", "Step", "Trained"]

Precision = Literal["float32", "bfloat16"]
Ended = Literal["finished", "converged", "out of time", "interrupted"]


@dataclass(frozen=True)
class Settings:
    """How a model is trained.

    Attributes:
        steps: optimiser steps at most.
        seconds: time at most, resumed runs counted together; None for as long as the steps take.
            The schedule then runs by whichever of steps and time is further on, so that it ends
            where the run ends, and equal seeds no longer give equal bits.
        schedule: of the learning rate.
        decay: AdamW's decoupled weight decay, of matrices only.
        clip_norm: gradients longer than this are shortened to it; None lets them be.
        accumulate: batches whose losses are averaged in one step.
        precision: "bfloat16" runs the forward pass under torch.autocast; weights stay float32.
        dropout: "off" trains the model as it is when it is used.
        look_every: steps between looks at the held-out batches.
        patience: looks without a new best loss after which the run ends; None for never.
        save_seconds: time between checkpoints.
        save_steps: steps between checkpoints, besides; None for time alone.
        seed: of everything that is drawn at random.
    """

    steps: int
    seconds: float | None = None
    schedule: Schedule = field(default_factory=Schedule)
    decay: float = 0.01
    clip_norm: float | None = 1.0
    accumulate: int = 1
    precision: Precision = "float32"
    dropout: Literal["on", "off"] = "on"
    look_every: int = 50
    patience: int | None = None
    save_seconds: float = 60.0
    save_steps: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        counts = {"steps": self.steps, "accumulate": self.accumulate, "look_every": self.look_every}
        for name, count in counts.items():
            if count < 1:
                raise ValueError(f"Settings: {name} is {count}; wanted at least 1.")
        if self.precision not in ("float32", "bfloat16"):
            raise ValueError(
                f"Settings: precision is {self.precision!r}; wanted 'float32' or 'bfloat16'."
            )
        if self.seconds is not None and self.seconds <= 0:
            raise ValueError(f"Settings: seconds is {self.seconds}; wanted a positive time.")

    def as_json(self) -> dict[str, Any]:
        """Plain values, to be compared with those of a checkpoint."""
        return asdict(self)


@dataclass(frozen=True)
class Step:
    """One optimiser step, as a callback sees it right after it was made.

    Attributes:
        number: counted from 1.
        steps: how many there will be at most.
        loss: mean over the step's batches, before the step.
        rate: learning rate of the step.
        norm: length of the gradient before it was clipped.
        seconds: spent so far, resumed runs counted together.
        seconds_left: estimate; None before there is one.
        held_out: loss on the held-out batches where they were looked at after this step.
        batches: what the objective was given.
        optimizer: the one that stepped; gradients are still there.
    """

    number: int
    steps: int
    loss: float
    rate: float
    norm: float
    seconds: float
    seconds_left: float | None
    held_out: float | None
    batches: tuple[Any, ...]
    optimizer: torch.optim.Optimizer


@dataclass(frozen=True)
class Trained:
    """How a training went. The model holds the best weights that the held-out batches saw.

    Attributes:
        ended: "finished" all steps; "converged": patience ran out; "out of time"; "interrupted":
            by Ctrl-C, saved, and continued when `train` is called again.
        steps: optimiser steps made.
        seconds: spent, resumed runs counted together.
        held_out_before: held-out loss before the first step; None without held-out batches.
        held_out: the best held-out loss.
        best_step: the step after which it was seen; 0 for the model as it came.
    """

    ended: Ended
    steps: int
    seconds: float
    held_out_before: float | None
    held_out: float | None
    best_step: int
