"""Record a run of the transformers Trainer, so that its predictions can be shared out.

    trainer = Trainer(model, args, train_dataset=data, callbacks=[RecorderCallback("run")])

Every row of the dataset carries its id in a column `example_id` (set `remove_unused_columns=False`
in the arguments); the callback takes it out before the model sees it. Replay with the same model:

    Replay(model, "run", loss=of_logits(cross_entropy_of))
"""

# The Trainer prescribes the arguments of its callbacks.
# ruff: noqa: ANN401, ARG002

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from unabridged.attribution import Loop, Recorder

__all__ = ["RecorderCallback", "of_logits"]


def of_logits(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Any, Tensor], Tensor]:
    """A loss or target of logits, as one of a transformers output."""
    return lambda outputs, labels: function(outputs.logits, labels)


class RecorderCallback(TrainerCallback):  # type: ignore[misc]
    """A `Recorder` that the Trainer drives.

    Args:
        folder: of the recording; an unfinished one is refused, since the Trainer resumes by itself.
        every: optimiser steps between checkpoints.
        id_key: name of the column with the ids.
        label_key: name of the column with the labels; they are not given to the model at replay.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        every: int = 50,
        id_key: str = "example_id",
        label_key: str = "labels",
    ) -> None:
        self.folder, self.every = Path(folder), every
        self._id_key, self._label_key = id_key, label_key
        self._recorder: Recorder | None = None
        self._batch: tuple[Tensor, dict[str, Tensor], Tensor] | None = None
        self._remove: Callable[[], None] | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Start recording."""
        model: nn.Module = given["model"]
        optimizer = given["optimizer"]
        inner = getattr(optimizer, "optimizer", optimizer)
        clip = args.max_grad_norm if args.max_grad_norm else None
        loop = Loop(clip_norm=clip)
        handle = model.register_forward_pre_hook(self._take_ids, with_kwargs=True)
        self._remove = handle.remove
        self._recorder = Recorder(model, inner, self.folder, loop=loop, every=self.every)
        self._recorder.__enter__()

    def _take_ids(
        self, model: nn.Module, arguments: tuple[Any, ...], given: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if self._id_key not in given:
            if model.training and torch.is_grad_enabled():
                raise ValueError(
                    f"RecorderCallback: no {self._id_key!r} among the inputs; give every row an id "
                    "in that column, and set remove_unused_columns=False."
                )
            return arguments, given
        kept = {name: value for name, value in given.items() if name != self._id_key}
        if model.training and torch.is_grad_enabled():
            inputs = {
                name: value.detach()
                for name, value in kept.items()
                if isinstance(value, Tensor) and name not in (self._label_key, "num_items_in_batch")
            }
            self._batch = given[self._id_key], inputs, kept[self._label_key]
        return arguments, kept

    def on_substep_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Note one accumulated batch."""
        self._note()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Note the batch that completed an optimiser step."""
        self._note()

    def _note(self) -> None:
        if self._recorder is not None and self._batch is not None:
            self._recorder.step(*self._batch)
            self._batch = None

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Finish the recording."""
        if self._recorder is not None:
            self._recorder.__exit__(None, None, None)
        if self._remove is not None:
            self._remove()
