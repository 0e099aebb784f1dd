"""Recorder: what a training loop did, kept so that it can be replayed to the last digit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from unabridged.attribution.batches import Batch, Data, Inputs, named
from unabridged.attribution.errors import RecordingError
from unabridged.attribution.optimizers import family_of, hyperparameters
from unabridged.attribution.packing import StepRecord, pack
from unabridged.attribution.recording import Manifest, Recording, fingerprint
from unabridged.attribution.refusals import refuse_autocast, refuse_coupled_modules
from unabridged.attribution.resuming import (
    refuse_other,
    restore_model,
    restore_optimizer,
    restore_schedule,
)

__all__ = ["Loop", "Recorder"]

Weighting = Literal["mean", "sum", "step-mean"]


@dataclass(frozen=True)
class Loop:
    """How a training loop turns the losses of single examples into one gradient.

    Attributes:
        weighting: "mean": each batch averages its rows, and k accumulated batches are divided by
            k; "sum": no division; "step-mean": division by all rows of the optimiser step.
        clip_norm: the `max_norm` given to `clip_grad_norm_`; None where nothing is clipped.
    """

    weighting: Weighting = "mean"
    clip_norm: float | None = None


class Recorder:
    """Watch a training loop, and write down what it takes to replay it.

    Call `step` at the end of every pass of the loop, once a forward and backward pass, after the
    optimiser and the schedule have stepped (with accumulation: also after the passes in between).

        with Recorder(model, optimizer, "run") as recorder:
            for ids, inputs, targets in loader:
                optimizer.zero_grad()
                loss(model(inputs), targets).mean().backward()
                optimizer.step()
                recorder.step(ids, inputs, targets)

    A folder that already holds an unfinished recording is continued: model, optimiser, schedule and
    torch's random state are set back to its last checkpoint, and `done` says how many optimiser
    steps the loop has to skip.

    Args:
        model: any module whose rows do not influence each other.
        optimizer: SGD, Adam or AdamW of torch.optim, not yet stepped.
        folder: where to write; made if missing.
        loop: how losses are weighed and gradients clipped.
        every: optimiser steps between checkpoints; a replay holds this many models in memory.
        data: where given, batches are fetched again from it at replay instead of being stored.
        scheduler: a learning-rate schedule, saved with the checkpoints so that it can continue.

    Raises:
        ValueError: an optimiser, module or setting that cannot be attributed, with the reason.
        RecordingError: a finished recording in the folder, or one of another model.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        folder: str | Path,
        *,
        loop: Loop | None = None,
        every: int = 50,
        data: Data | None = None,
        scheduler: LRScheduler | None = None,
    ) -> None:
        if every < 1:
            raise ValueError(f"Recorder: every is {every}; wanted at least 1 step a checkpoint.")
        refuse_coupled_modules(model)
        self.model, self.optimizer, self.data = model, optimizer, data
        self._scheduler = scheduler
        self._names = _names_by_group(model, optimizer)
        self._step, self._steps = StepRecord(), list[StepRecord]()
        self._fetch_state: Tensor | None = None
        self._forward_state: Tensor | None = None
        self._forwards = 0
        self._remove: list[Callable[[], None]] = []
        self.recording = self._open(Path(folder), loop or Loop(), every)
        self.done = self.recording.manifest.steps

    def _open(self, folder: Path, loop: Loop, every: int) -> Recording:
        family = family_of(self.optimizer)
        training = [name for name, module in self.model.named_modules() if module.training]
        trained = [name for group in self._names for name in group]
        manifest = Manifest(
            model=fingerprint(self.model, trained),
            optimizer=asdict(family),
            groups=self._names,
            loop=asdict(loop),
            training=training,
            every=every,
        )
        if Recording.exists(folder):
            return self._continued(Recording.open(folder), manifest)
        if self.optimizer.state:
            raise ValueError(
                "Recorder: the optimizer has stepped before; wanted a fresh one, because what "
                "its buffers remember came from steps that nobody recorded."
            )
        recording = Recording(folder, manifest)
        recording.append(self._parameters(), 0, 0)
        return recording

    def _continued(self, recording: Recording, wanted: Manifest) -> Recording:
        refuse_other(recording, wanted)
        tensors = recording.load(len(recording.manifest.segments) - 1)
        restore_model(self.model, tensors)
        if recording.manifest.steps:
            restore_optimizer(self.model, self.optimizer, tensors, steps=recording.manifest.steps)
            restore_schedule(self.optimizer, self._scheduler, recording.manifest.scheduler, tensors)
            torch.set_rng_state(tensors["random_state"])
        return recording

    def _parameters(self) -> dict[str, Tensor]:
        parameters = dict(self.model.named_parameters())
        return {f"parameter/{n}": parameters[n] for group in self._names for n in group}

    def __enter__(self) -> Self:
        """Start watching."""
        before = self.model.register_forward_pre_hook(self._before_forward)
        after = self.model.register_forward_hook(self._after_forward)
        stepping = self.optimizer.register_step_pre_hook(self._before_optimizer)
        self._remove = [before.remove, after.remove, stepping.remove]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop watching; after an error keep the last checkpoint, so that the loop can continue."""
        for remove in self._remove:
            remove()
        if kind is None:
            self._checkpoint()
            self.recording.manifest.complete = True
            self.recording.save()

    def fetch(self, ids: Tensor) -> Batch:
        """Get a batch from `data`, and remember the random state it was drawn with."""
        if self.data is None:
            raise ValueError("Recorder.fetch: no data was given to the Recorder; pass data=….")
        self._fetch_state = torch.get_rng_state()
        return self.data(ids)

    def _before_forward(self, model: nn.Module, _: object) -> None:
        if model.training and torch.is_grad_enabled():
            refuse_autocast()
            self._forwards += 1
            self._forward_state = torch.get_rng_state()

    def _after_forward(self, model: nn.Module, _: object, __: object) -> None:
        unused = self._forward_state is not None and torch.equal(
            self._forward_state, torch.get_rng_state()
        )
        if model.training and unused:
            self._forward_state = None

    def _before_optimizer(self, optimizer: torch.optim.Optimizer, *_: object) -> None:
        if self._step.rates is not None:
            raise RecordingError(
                "Recorder: the optimizer stepped twice without a call of step() between; "
                "call recorder.step(ids, inputs, targets) at the end of every pass."
            )
        trained = [p for group in optimizer.param_groups for p in group["params"]]
        gradients = [p.grad for p in trained if p.grad is not None]
        if len(gradients) != sum(map(len, self._names)):
            self._refuse_missing_gradients()
        self._step.rates = hyperparameters(optimizer)
        norms = torch.stack([g.detach().double().norm() for g in gradients])
        self._step.norm = float(norms.norm())

    def _refuse_missing_gradients(self) -> None:
        parameters = dict(self.model.named_parameters())
        without = [n for group in self._names for n in group if parameters[n].grad is None]
        raise ValueError(
            f"Recorder: {', '.join(without) or 'a parameter outside the model'} got no gradient; "
            "torch.optim then skips its decay and momentum too: give the optimizer only what "
            "the loss depends on (requires_grad_(False) before the optimizer is made)."
        )

    def step(self, ids: Tensor, inputs: Inputs, targets: Tensor) -> None:
        """Note the batch that was just used.

        Args:
            ids: (N,) int64, one id an example; a repeated id is an example that counts twice.
            inputs: what the model was called with.
            targets: what the loss was called with, rows first.
        """
        if self._forwards != 1:
            raise RecordingError(
                f"Recorder.step: the model ran {self._forwards} times in training mode since the "
                "last call; wanted exactly one forward pass a batch."
            )
        ids = torch.as_tensor(ids, dtype=torch.int64).cpu()
        if ids.shape != (len(targets),):
            raise ValueError(
                f"Recorder.step: ids have shape {tuple(ids.shape)} and there are {len(targets)} "
                "targets; give one id a row."
            )
        self._step.ids.append(ids)
        self._step.forward_states.append(self._forward_state)
        self._step.fetch_states.append(self._fetch_state)
        if self.data is None:
            kept = {key: t.detach().clone() for key, t in named(inputs).items()}
            self._step.batches.append((kept, targets.detach().clone()))
        self._forwards, self._forward_state, self._fetch_state = 0, None, None
        if self._step.rates is not None:
            self._steps.append(self._step)
            self._step = StepRecord()
            self.done += 1
            if len(self._steps) == self.recording.manifest.every:
                self._checkpoint()

    def _checkpoint(self) -> None:
        if not self._steps:
            return
        tensors = {**pack(self._steps), **self._parameters(), **self._buffers()}
        tensors["random_state"] = torch.get_rng_state()
        if self._scheduler is not None:
            self.recording.manifest.scheduler = _plain(self._scheduler.state_dict())
        self.recording.append(tensors, self.done - len(self._steps), self.done)
        self._steps = []

    def _buffers(self) -> dict[str, Tensor]:
        parameters = dict(self.model.named_parameters())
        kept = {}
        for name in (name for group in self._names for name in group):
            state = self.optimizer.state[parameters[name]]
            for key, label in (("momentum_buffer", "buffer"), ("exp_avg", "buffer")):
                if isinstance(state.get(key), Tensor):
                    kept[f"{label}/{name}"] = state[key]
            if "exp_avg_sq" in state:
                kept[f"square/{name}"] = state["exp_avg_sq"]
        return kept


def _names_by_group(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[list[str]]:
    names = {parameter: name for name, parameter in model.named_parameters()}
    groups = []
    for group in optimizer.param_groups:
        used = [parameter for parameter in group["params"] if parameter.requires_grad]
        outside = [parameter for parameter in used if parameter not in names]
        if outside:
            raise ValueError(
                f"Recorder: the optimizer trains {len(outside)} tensors that are not parameters of "
                "the model; wrap everything that is trained in one module."
            )
        groups.append([names[parameter] for parameter in used])
    dtypes = {p.dtype for group in optimizer.param_groups for p in group["params"]}
    if len(dtypes) != 1:
        raise ValueError(f"Recorder: trained parameters are {dtypes}; wanted one dtype for all.")
    return groups


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    """The part of a schedule's state that JSON can hold; functions are the loop's to rebuild."""
    kinds = (int, float, str, bool, list, type(None))
    return {key: value for key, value in state.items() if isinstance(value, kinds)}
