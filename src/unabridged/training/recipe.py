"""What an adaptation is told and what it tells."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from unabridged.training.settings import Ended

__all__ = ["Adapted", "Goal", "Recipe", "Trains"]

Goal = Literal["auto", "masked-language", "distillation"]
Trains = Literal["all", "positions+norms"]


@dataclass(frozen=True)
class Recipe:
    """How a model is taught to read whole documents.

    Attributes:
        goal: "masked-language": hidden tokens are guessed, for checkpoints with the head for it;
            "distillation": the model learns to say of the whole what it says of windows; "auto":
            the first where there is that head, else the second.
        trains: which weights change.
        max_length: tokens, special ones included, of the new model; the model is extended first
            where it has fewer. None for what it has.
        minutes: of training, looks at held-out documents included, reading the documents not;
            runs that were interrupted count together. None for no limit but `steps`.
        steps: optimiser steps at most; None for no limit but `minutes`.
        rate: the highest learning rate.
        documents: stretches of documents that make one step.
        window: tokens that the model reads at once while it teaches itself, special ones not
            counted; what it was trained for, or less.
        teacher: the model whose reading of windows is learned; None for the model itself. Give the
            original one to go on with a model that was adapted before.
        attention: name of an attention of `unabridged.attention.choices` to train with, which the
            new model's config then remembers; None for exact attention.
        residual_attention: whether layers may learn to add the scores of those before (RealFormer);
            their gates start at 0, and once they are open only this package reads the new model as
            it was trained.
        precision: "auto" is bfloat16 where this processor does it well.
        seed: of all that is drawn.
    """

    goal: Goal = "auto"
    trains: Trains = "all"
    max_length: int | None = None
    minutes: float | None = 20.0
    steps: int | None = None
    rate: float = 5e-5
    documents: int = 1
    window: int = 254
    teacher: str | None = None
    attention: str | None = None
    residual_attention: bool = False
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        choices = {
            "goal": (self.goal, ("auto", "masked-language", "distillation")),
            "trains": (self.trains, ("all", "positions+norms")),
            "precision": (self.precision, ("auto", "float32", "bfloat16")),
        }
        for name, (got, wanted) in choices.items():
            if got not in wanted:
                raise ValueError(f"Recipe: {name} is {got!r}; wanted one of {', '.join(wanted)}.")
        if self.minutes is None and self.steps is None:
            raise ValueError("Recipe: neither minutes nor steps; give one, or it never ends.")
        if self.residual_attention and self.attention is not None:
            raise ValueError(
                f"Recipe: attention is {self.attention!r} and residual_attention is wanted, which "
                "has an attention of its own; leave one of them out."
            )
        if self.window < 8:
            raise ValueError(f"Recipe: window is {self.window} tokens; wanted at least 8.")

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Adapted:
    """What an adaptation did.

    Attributes:
        folder: the new model; not there yet where `ended` is "interrupted".
        goal: what was trained.
        ended: why it ended.
        documents: long documents that it was trained on.
        held_out: long documents that it was only looked at with.
        failed: files that could not be read, with the reasons.
        steps: optimiser steps made.
        seconds: that they took, looks at held-out documents included.
        loss_before: on the held-out documents.
        loss: the same with the weights that were kept.
        positions: tokens that the new model takes.
    """

    folder: Path
    goal: Goal
    ended: Ended
    documents: int
    held_out: int
    failed: tuple[tuple[str, str], ...]
    steps: int
    seconds: float
    loss_before: float
    loss: float
    positions: int
