"""A training loop that gives equal bits for equal seeds, whether it was killed in between or not.

    batches = Batches(corpus.blocks(128), size=32, seed=0)  # number -> batch
    objective = MaskedLanguageModel(Masking.of(tokenizer))  # (model, batch, generator) -> loss
    trained = train(model, objective, batches, folder="run", settings=Settings(steps=1000))

Everything random is a function of the seed and the number of the step: the batch, the generator
that the objective gets, torch's own random state (dropout). So a checkpoint is the model, the
optimiser and a few counts, and a run that continues from one makes the very steps that it would
have made. Calling `train` again with the same folder and settings continues.

In the folder stand `state.safetensors` (the checkpoint), `best.safetensors` (the weights with the
lowest held-out loss), `history.jsonl` (a line a step) and `history.svg` (its drawing).

`on_step` is called with a `Step` after every optimiser step: progress bars, recorders.
"""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unabridged.encoder.surgery import GATE
from unabridged.training.checkpoints import load_into, read_tensors, save_whole, tensors_of
from unabridged.training.errors import TrainingError
from unabridged.training.history import History
from unabridged.training.schedule import Schedule
from unabridged.training.seeds import generator, seed_of
from unabridged.training.settings import Ended, Settings, Step, Trained

__all__ = [
    "BatchOf",
    "Objective",
    "Schedule",
    "Settings",
    "Step",
    "Trained",
    "make_optimizer",
    "train",
]

GATE_GAIN = 50.0
"""How much faster than other weights the gates of residual attention learn."""

Objective = Callable[[nn.Module, Any, torch.Generator], Tensor]
"""A model, a batch and a source of randomness to a scalar loss."""

BatchOf = Callable[[int], Any]
"""The number of a batch, counted from 0, to the batch; always the same one."""

_STATE, _BEST, _HISTORY = "state.safetensors", "best.safetensors", "history.jsonl"
_DROPOUT, _OBJECTIVE, _LOOK = range(3)  # streams of randomness within a step


def train(
    model: nn.Module,
    objective: Objective,
    batches: BatchOf,
    *,
    folder: str | os.PathLike[str],
    settings: Settings,
    held_out: Sequence[Any] = (),
    optimizer: torch.optim.Optimizer | None = None,
    on_step: Callable[[Step], None] | None = None,
) -> Trained:
    """Train a model in place; continue where the folder holds an unfinished run.

    The model that is handed in must be the one that the run began with. Ctrl-C, or a request to
    terminate, lets the step finish, saves, and returns; a second one leaves at once.

    Args:
        model: what requires no gradient stays as it is.
        objective: the loss of a batch.
        batches: see `BatchOf`; with accumulation, step n takes the batches from n times so many on.
        folder: of the run; made if missing.
        settings: of the run.
        held_out: batches that are only looked at, always with the same randomness. Where there are
            any, the model ends with the best weights, else with the last.
        optimizer: None for `make_optimizer(model, settings)`; one that has not stepped. Its rate
            is set by the schedule, times the "gain" of a group that has one.
        on_step: told of every step.

    Raises:
        TrainingError: a folder of another run, or a loss that is no number.

    >>> import tempfile
    >>> model = nn.Linear(3, 1)
    >>> fit = lambda model, x, _: (model(x) - x.sum(1, keepdim=True)).square().mean()
    >>> draw = lambda number: torch.randn(8, 3, generator=generator(0, number))
    >>> settings = Settings(steps=200, schedule=Schedule(peak=0.1))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     trained = train(model, fit, draw, folder=folder, settings=settings)
    >>> trained.ended, trained.steps, bool(fit(model, draw(1000), None) < 1e-3)
    ('finished', 200, True)
    """
    optimizer = optimizer or make_optimizer(model, settings)
    run = _Run(model, objective, batches, optimizer, settings, Path(folder), tuple(held_out))
    was_training = model.training
    try:
        with _interruptible() as interrupted:
            return run.go(on_step or (lambda _: None), interrupted)
    finally:
        model.train(was_training)


def make_optimizer(model: nn.Module, settings: Settings) -> torch.optim.AdamW:
    """AdamW over what requires a gradient; biases, norms and other vectors do not decay.

    Gates of residual attention learn `GATE_GAIN` times as fast: at a rate that is right for weights
    that were trained long, a number that starts at 0 and may end near 1 would hardly move.
    """
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    gates = [p for name, p in trained if name.endswith(GATE)]
    rest = [p for name, p in trained if not name.endswith(GATE)]
    groups = [
        {"params": [p for p in rest if p.ndim > 1], "weight_decay": settings.decay},
        {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0},
        {"params": gates, "weight_decay": 0.0, "gain": GATE_GAIN},
    ]
    groups = [group for group in groups if group["params"]]
    if not groups:
        raise ValueError("make_optimizer: no parameter requires a gradient; unfreeze some.")
    return torch.optim.AdamW(groups, lr=settings.schedule.peak)


@dataclass
class _Counts:
    """What a checkpoint holds beside tensors."""

    step: int = 0
    seconds: float = 0.0
    before: float | None = None
    best: float | None = None
    best_step: int = 0
    misses: int = 0
    ended: Ended | None = None


@dataclass
class _Run:
    model: nn.Module
    objective: Objective
    batches: BatchOf
    optimizer: torch.optim.Optimizer
    settings: Settings
    folder: Path
    held_out: tuple[Any, ...]

    def go(self, on_step: Callable[[Step], None], interrupted: threading.Event) -> Trained:
        counts = self._resume()
        began = time.monotonic() - counts.seconds
        saved = time.monotonic()
        history = History(self.folder / _HISTORY, steps=counts.step or -1)
        try:
            if self.held_out and counts.before is None:
                counts.before = self._look(counts, history)
            while counts.ended is None:
                step = self._step(counts, history, began)
                on_step(step)
                counts.ended = self._ending(counts, interrupted)
                due = time.monotonic() - saved >= self.settings.save_seconds
                by_steps = self.settings.save_steps
                if due or counts.ended or (by_steps and counts.step % by_steps == 0):
                    self._save(counts)
                    saved = time.monotonic()
        finally:
            history.close()
        if self.held_out and counts.ended != "interrupted":
            load_into(self.model, read_tensors(self.folder / _BEST)[0])
        return self._result(counts)

    def _resume(self) -> _Counts:
        path = self.folder / _STATE
        if not path.exists():
            return _Counts()
        tensors, facts = read_tensors(path)
        known = facts["settings"]
        wanted = self.settings.as_json()
        differing = [name for name in wanted if known.get(name) != wanted[name]]
        if differing:
            name = differing[0]
            raise TrainingError(
                f"training: {self.folder} holds a run with {name} {known.get(name)}, and now it is "
                f"{wanted[name]}; continue with the same settings, or train in another folder."
            )
        load_into(self.model, tensors, self.optimizer)
        counts = _Counts(**facts["counts"])
        if counts.ended == "interrupted":
            counts.ended = None
        return counts

    def _step(self, counts: _Counts, history: History, began: float) -> Step:
        number, settings = counts.step, self.settings
        rate = settings.schedule(self._share(counts.seconds, (number + 0.5) / settings.steps))
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("gain", 1.0)
        first = number * settings.accumulate
        batches = tuple(self.batches(first + i) for i in range(settings.accumulate))
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._backward(batches, number)
        norm = self._clip()
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise TrainingError(
                f"training: at step {number + 1} the loss is {loss} and its gradient has length "
                f"{norm}; lower the learning rate ({rate:.2g}), or take precision='float32'."
            )
        self.optimizer.step()
        counts.step += 1
        counts.seconds = time.monotonic() - began
        history.add(
            step=counts.step, loss=loss, rate=rate, norm=norm, seconds=round(counts.seconds, 3)
        )
        seen = None
        if self.held_out and (counts.step % settings.look_every == 0 or self._is_last(counts)):
            seen = self._look(counts, history)
            counts.seconds = time.monotonic() - began
        left = self._seconds_left(counts)
        facts = (counts.step, settings.steps, loss, rate, norm, counts.seconds, left, seen)
        return Step(*facts, batches, self.optimizer)

    def _backward(self, batches: tuple[Any, ...], number: int) -> float:
        self.model.train(self.settings.dropout == "on")
        total = 0.0
        for place, batch in enumerate(batches):
            with torch.random.fork_rng(devices=[]), self._precision():
                torch.manual_seed(seed_of(self.settings.seed, _DROPOUT, number, place))
                drawn = generator(self.settings.seed, _OBJECTIVE, number, place)
                loss = self.objective(self.model, batch, drawn) / len(batches)
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        return total

    def _clip(self) -> float:
        trained = [p for group in self.optimizer.param_groups for p in group["params"]]
        longest = math.inf if self.settings.clip_norm is None else self.settings.clip_norm
        return float(nn.utils.clip_grad_norm_(trained, longest))

    @torch.no_grad()
    def _look(self, counts: _Counts, history: History) -> float:
        """The held-out loss; the model is kept where it is the best so far."""
        self.model.eval()
        losses = []
        for place, batch in enumerate(self.held_out):
            drawn = generator(self.settings.seed, _LOOK, place)
            with self._precision():
                losses.append(float(self.objective(self.model, batch, drawn)))
        loss = sum(losses) / len(losses)
        history.add(step=counts.step, held_out=loss)
        if counts.best is None or loss < counts.best:
            counts.best, counts.best_step, counts.misses = loss, counts.step, 0
            save_whole(self.folder / _BEST, tensors_of(self.model), {"step": counts.step})
        else:
            counts.misses += 1
        return loss

    def _precision(self) -> torch.autocast:
        halved = self.settings.precision == "bfloat16"
        return torch.autocast("cpu", dtype=torch.bfloat16, enabled=halved)

    def _share(self, seconds: float, of_steps: float) -> float:
        budget = self.settings.seconds
        return min(1.0, max(of_steps, seconds / budget if budget else 0.0))

    def _is_last(self, counts: _Counts) -> bool:
        return self._share(counts.seconds, counts.step / self.settings.steps) >= 1.0

    def _ending(self, counts: _Counts, interrupted: threading.Event) -> Ended | None:
        patience = self.settings.patience
        if counts.step >= self.settings.steps:
            return "finished"
        if patience is not None and counts.misses >= patience:
            return "converged"
        if self._is_last(counts):
            return "out of time"
        return "interrupted" if interrupted.is_set() else None

    def _seconds_left(self, counts: _Counts) -> float | None:
        by_steps = counts.seconds / counts.step * (self.settings.steps - counts.step)
        if self.settings.seconds is None:
            return by_steps
        return max(0.0, min(by_steps, self.settings.seconds - counts.seconds))

    def _save(self, counts: _Counts) -> None:
        facts = {"settings": self.settings.as_json(), "counts": asdict(counts)}
        save_whole(self.folder / _STATE, tensors_of(self.model, self.optimizer), facts)

    def _result(self, counts: _Counts) -> Trained:
        ended = counts.ended or "interrupted"
        seen = (counts.before, counts.best, counts.best_step)
        return Trained(ended, counts.step, counts.seconds, *seen)


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C or request to terminate sets; the second one acts as ever."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, frame: object) -> None:  # noqa: ARG001  the signature of a handler
        asked.set()
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, ask)
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
