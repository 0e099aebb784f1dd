"""Replay: a recorded training run, run again step by step, with everything open to inspection."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from unabridged.attribution.batches import Batch, Data, Inputs, call, cast, rows_of, take
from unabridged.attribution.errors import RecordingError
from unabridged.attribution.gradients import GradientTape, RowGradients
from unabridged.attribution.layout import Layout
from unabridged.attribution.optimizers import Family, Moments, coefficients
from unabridged.attribution.packing import StepRecord, unpack
from unabridged.attribution.recording import Recording
from unabridged.attribution.refusals import refuse_other_gradient, refuse_other_model
from unabridged.attribution.steps import Segment, State, TakenStep, expanded_rates
from unabridged.attribution.targets import Target

__all__ = ["Replay"]


class Replay:
    """Opens a recording for attribution.

    The model is copied; the caller's is not touched. Batches come from the recording, or from
    `data` where it was recorded with one.

    Attributes:
        ids: (n,) the distinct ids of the run, ascending.
        rates: (S, groups, fields) the optimiser's rates at every step.

    Args:
        model: the model that was recorded; its parameter values do not matter here.
        folder: the recording.
        loss: (outputs, targets) → (N,) losses, one a row: the training loss before averaging.
        data: as given to the recorder.
        precision: dtype of the replay; float64 keeps rounding out of the ledger.
        budget: bytes that may be spent on intermediate results.

    Raises:
        RecordingError: damaged, unfinished, or not a recording of this model, loss and data.
    """

    def __init__(
        self,
        model: nn.Module,
        folder: str | Path,
        *,
        loss: Target,
        data: Data | None = None,
        precision: torch.dtype = torch.float64,
        budget: int = 1 << 30,
    ) -> None:
        self.recording = Recording.open(folder)
        manifest = self.recording.manifest
        names = [name for group in manifest.groups for name in group]
        refuse_other_model(model, names, manifest.model)
        self.model = copy.deepcopy(model).to(precision)
        self.layout = Layout.of(self.model, names)
        self.loss, self.data, self.budget = loss, data, budget
        self.precision = precision
        self.family = Family(**manifest.optimizer)
        self._flat = self.layout.bind(self.model, precision)
        self._training, self._mode = set(manifest.training), ""
        self.tape = GradientTape(self.model, self.layout)
        self._survey()
        self._probe()

    @property
    def steps(self) -> int:
        """S, the number of recorded optimiser steps."""
        return self.recording.manifest.steps

    def _survey(self) -> None:
        """Read every file once: all ids, all rates, and whether the checksums hold."""
        self.recording.load(0)
        segments = range(1, len(self.recording.manifest.segments))
        ids, rates = [], []
        for index in segments:
            tensors = self.recording.load(index)
            ids.append(tensors["ids"])
            rates.append(tensors["rates"])
        if not ids:
            raise RecordingError(
                f"Replay: {self.recording.folder} holds no step; train at least one."
            )
        self.ids, self.rates = torch.unique(torch.cat(ids)), torch.cat(rates)

    def columns(self, ids: Tensor) -> Tensor:
        """(N,) where the ids stand in `self.ids`; raises ValueError for one that never occurred."""
        places = torch.searchsorted(self.ids, ids).clamp(max=len(self.ids) - 1)
        unknown = ids[self.ids[places] != ids]
        if len(unknown):
            raise ValueError(
                f"Replay: id {int(unknown[0])} is in no recorded batch; "
                f"wanted ids among the {len(self.ids)} recorded ones."
            )
        return places

    # -- parameters ------------------------------------------------------------------------------

    def set(self, theta: Tensor) -> None:
        """Put (P,) parameters into the replay's model."""
        with torch.no_grad():
            self._flat.copy_(theta)

    def parameters(self, segment: int) -> Tensor:
        """(P,) the recorded parameters at the end of a segment; 0 is the start, -1 the end."""
        count = len(self.recording.manifest.segments)
        return self._read(self.recording.load(segment % count), "parameter")

    def _read(self, tensors: dict[str, Tensor], label: str) -> Tensor:
        wanted = {name: f"{label}/{name}" for name in self.layout.names}
        if label != "parameter" and next(iter(wanted.values())) not in tensors:
            return torch.zeros(self.layout.size, dtype=self.precision)
        return self.layout.flatten({n: tensors[key] for n, key in wanted.items()}).to(
            self.precision
        )

    def check(self, model: nn.Module) -> None:
        """Raise unless `model` is, value by value, what the recording ended with."""
        end = self.parameters(-1)
        values = {name: p.detach() for name, p in model.named_parameters()}
        if not torch.equal(self.layout.flatten(values).to(self.precision), end):
            raise RecordingError(
                "Replay: the model was changed after its recording ended, so the ledger would "
                "explain another model; load the recorded parameters (Replay.restore) or record."
            )

    def restore(self, model: nn.Module) -> None:
        """Give `model` the parameters that the recording ended with."""
        views = self.layout.unflatten(self.parameters(-1))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name in views:
                    parameter.copy_(views[name])

    # -- rows at the current parameters ----------------------------------------------------------

    def mode(self, kind: Literal["train", "eval"]) -> None:
        """Training mode as recorded, or evaluation mode."""
        if kind != self._mode:
            self._mode = kind
            for name, module in self.model.named_modules():
                module.training = kind == "train" and name in self._training

    def values(self, theta: Tensor, inputs: Inputs, labels: Tensor, target: Target) -> Tensor:
        """(T,) the targets of test rows at given parameters."""
        self.set(theta)
        self.mode("eval")
        with torch.no_grad():
            return target(call(self.model, inputs), labels)

    def slopes(self, theta: Tensor, inputs: Inputs, labels: Tensor, target: Target) -> RowGradients:
        """Gradients of the targets of T test rows at given parameters."""
        self.set(theta)
        self.mode("eval")
        return self.tape.run(lambda: target(call(self.model, inputs), labels))[1]

    def batch(self, record: StepRecord, index: int) -> Batch:
        """Inputs and targets of one pass of a step, as they went into the model."""
        stored = record.stored(index)
        if stored is None:
            if self.data is None:
                raise RecordingError(
                    "Replay: this recording was made with data=… and holds no batches; "
                    "pass the same data to Replay."
                )
            state = record.fetch_states[index]
            if state is not None:
                torch.set_rng_state(state)
            stored = self.data(record.ids[index])
        inputs, targets = stored
        targets = targets.to(self.precision) if targets.is_floating_point() else targets
        return cast(inputs, self.precision), targets

    def forward(self, record: StepRecord, index: int) -> Tensor:
        """(N,) weighted losses of one pass, in a graph, with the recorded random numbers."""
        outputs, targets = self._run(record, index)
        losses = self.loss(outputs, targets)
        if losses.shape != (len(record.ids[index]),):
            raise ValueError(
                f"Replay: loss returned shape {tuple(losses.shape)} for "
                f"{len(record.ids[index])} rows; wanted one loss a row (reduction='none')."
            )
        return losses * self.weight(record, index)

    def _run(self, record: StepRecord, index: int) -> tuple[Tensor, Tensor]:
        state = record.forward_states[index]
        draws = state is not None or self.data is not None
        with torch.random.fork_rng(devices=[], enabled=draws):
            inputs, targets = self.batch(record, index)
            if state is not None:
                torch.set_rng_state(state)
            return call(self.model, inputs), targets

    def outputs(self, step: TakenStep, index: int) -> Tensor:
        """(N, C) what the model returned for one pass of a step."""
        self.set(step.theta)
        self.mode("train")
        with torch.no_grad():
            return self._run(step.record, index)[0]

    def output_slopes(self, step: TakenStep, index: int) -> Tensor:
        """(N, C) derivatives of one pass's weighted losses by the model's outputs."""
        self.set(step.theta)
        self.mode("train")
        with torch.no_grad():
            outputs, targets = self._run(step.record, index)
        with torch.enable_grad():
            outputs = outputs.requires_grad_()
            losses = self.loss(outputs, targets) * self.weight(step.record, index)
            return torch.autograd.grad(losses.sum(), outputs)[0]

    def output_gradients(self, step: TakenStep, index: int, output: int) -> RowGradients:
        """Gradients of one output of the N rows of a pass."""
        self.set(step.theta)
        self.mode("train")
        return self.tape.run(lambda: self._run(step.record, index)[0][:, output])[1]

    def weight(self, record: StepRecord, index: int) -> float:
        """What the loss of every row of a pass is multiplied by, from the loop's weighting."""
        weighting = self.recording.manifest.loop["weighting"]
        if weighting == "sum":
            return 1.0
        if weighting == "mean":
            return 1.0 / (len(record.ids[index]) * len(record.ids))
        return 1.0 / sum(map(len, record.ids))

    def row_gradients(self, step: TakenStep) -> Iterator[tuple[Tensor, RowGradients]]:
        """For every pass of a step: ids (N,) and the gradients of its weighted losses."""
        if step.gradients:
            yield from zip(step.record.ids, step.gradients, strict=True)
            return
        self.set(step.theta)
        self.mode("train")
        for index, ids in enumerate(step.record.ids):
            yield ids, self.tape.run(partial(self.forward, step.record, index))[1]

    # -- the run ---------------------------------------------------------------------------------

    def backwards(self) -> Iterator[Segment]:
        """The segments, last first; each is recomputed from the checkpoint before it."""
        for index in range(len(self.recording.manifest.segments) - 1, 0, -1):
            yield self._segment(index)

    def _segment(self, index: int) -> Segment:
        before, tensors = self.recording.load(index - 1), self.recording.load(index)
        moments = Moments(self._read(before, "buffer"), self._read(before, "square"))
        first = self.recording.manifest.segments[index].first
        state = State(self._read(before, "parameter"), moments, first)
        steps = []
        for record in unpack(tensors):
            step, state = self.take(record, state)
            refuse_other_gradient(step.number, step.record.norm, step.gradient.norm() * step.clip)
            steps.append(step)
        return Segment(steps, self._read(tensors, "parameter"))

    def take(
        self, record: StepRecord, state: State, weights: Sequence[Tensor] | None = None
    ) -> tuple[TakenStep, State]:
        """Take one recorded step from given parameters and buffers.

        Args:
            record: the step.
            state: before it.
            weights: for every pass (N,) factors on the losses of its rows; None: all 1.

        Returns:
            The step, and the state after it.
        """
        gradients = self._gradients(record, state.theta, weights)
        gradient = torch.stack([rows.total(state.theta) for rows in gradients]).sum(0)
        limit = self.recording.manifest.loop["clip_norm"]
        clip = 1.0 if limit is None else min(1.0, limit / (float(gradient.norm()) + 1e-6))
        rates = expanded_rates(record, self.recording.manifest.groups, self.layout)
        decay = 0.0 if self.family.decoupled else rates["weight_decay"]
        z = clip * gradient + decay * state.theta
        square = state.moments.square
        filled = coefficients(self.family, rates, step=state.number, square=square, z=z)
        moved, moments = filled.advance(state.theta, state.moments, z)
        change = moved - state.theta
        held = sum(rows.bytes for rows in gradients) * self.recording.manifest.every
        kept = tuple(gradients) if held < self.budget // 4 else ()
        taken = TakenStep(record, state, change, gradient, clip, filled, kept)
        return taken, State(moved, moments, state.number + 1)

    def _gradients(
        self, record: StepRecord, theta: Tensor, weights: Sequence[Tensor] | None
    ) -> list[RowGradients]:
        self.set(theta)
        self.mode("train")
        passes = range(len(record.ids))
        found = [self.tape.run(partial(self.forward, record, index))[1] for index in passes]
        if weights is None:
            return found
        return [rows.scaled(w) for rows, w in zip(found, weights, strict=True)]

    def hessian_products(self, step: TakenStep, index: int, vectors: Tensor) -> Tensor:
        """(T, P) the Hessian of one pass's weighted loss times T vectors (T, P)."""
        self.set(step.theta)
        self.mode("train")
        parameters = dict(self.model.named_parameters())
        leaves = [parameters[name] for name in self.layout.names]
        with torch.enable_grad():
            loss = self.forward(step.record, index).sum()
            slopes = torch.autograd.grad(loss, leaves, create_graph=True, materialize_grads=True)
            flat = torch.cat([slope.flatten() for slope in slopes])
            products = torch.autograd.grad(
                flat, leaves, vectors, is_grads_batched=True, materialize_grads=True
            )
        return torch.cat([product.flatten(1) for product in products], 1)

    def _probe(self) -> None:
        """On the first batch: learn what is factorable, and refuse rows that depend on others."""
        self.set(self.parameters(0))
        record = next(unpack(self.recording.load(1)))
        self.mode("train")
        self.tape.find_factored(lambda: self.forward(record, 0))
        self.mode("eval")
        with torch.random.fork_rng(devices=[]):
            inputs, targets = self.batch(record, 0)
        count = min(rows_of(inputs), 3)
        with torch.no_grad():
            together = self.loss(call(self.model, inputs), targets)[:count]
            alone = [
                self.loss(call(self.model, take(inputs, slice(i, i + 1))), targets[i : i + 1])
                for i in range(count)
            ]
        gap = (together - torch.cat(alone)).abs().max()
        if gap > 1e-3 * together.abs().max().clamp(min=1e-3):
            raise RecordingError(
                f"Replay: the loss of a row changes by {float(gap):.3g} when the others leave its "
                "batch, so no step can be shared out among rows; use a loss and layers that treat "
                "every row by itself."
            )
