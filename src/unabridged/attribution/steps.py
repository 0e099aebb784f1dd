"""One optimiser step as a replay takes it, and the rates it takes it with."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unabridged.attribution.errors import RecordingError
from unabridged.attribution.gradients import RowGradients
from unabridged.attribution.layout import Layout
from unabridged.attribution.optimizers import FIELDS, Coefficients, Moments, Number
from unabridged.attribution.packing import StepRecord

__all__ = ["Segment", "State", "TakenStep", "expanded_rates"]


@dataclass(frozen=True)
class State:
    """Between two steps: (P,) parameters, the optimiser's buffers, and the number of the next."""

    theta: Tensor
    moments: Moments
    number: int


@dataclass(frozen=True)
class TakenStep:
    """One optimiser step as it was replayed.

    Attributes:
        record: what was written down of it.
        before: the state it started from.
        change: (P,) parameters after it less those before.
        gradient: (P,) before clipping.
        clip: the factor that clipping applied; 1 where it did nothing.
        coefficients: the realised recurrence.
        gradients: of every pass, where the budget allows to keep them; empty otherwise.
    """

    record: StepRecord
    before: State
    change: Tensor
    gradient: Tensor
    clip: float
    coefficients: Coefficients
    gradients: tuple[RowGradients, ...] = ()

    @property
    def theta(self) -> Tensor:
        """(P,) the parameters before the step."""
        return self.before.theta

    @property
    def number(self) -> int:
        """Which step, from 0."""
        return self.before.number

    @property
    def z(self) -> Tensor:
        """(P,) the clipped gradient with coupled decay, which is what the optimiser works with."""
        return self.clip * self.gradient + self.coefficients.omega * self.theta


@dataclass(frozen=True)
class Segment:
    """The steps between two checkpoints, and (P,) the parameters recorded at its end."""

    steps: list[TakenStep]
    end: Tensor


def expanded_rates(
    record: StepRecord, groups: list[list[str]], layout: Layout
) -> dict[str, Number]:
    """The rates of a step by name: a float where all parameter groups agree, else (P,)."""
    if record.rates is None:
        raise RecordingError("Replay: a step was recorded without rates; record again.")
    rows = record.rates.tolist()
    spans = [[layout.span(name) for name in group] for group in groups]
    sizes = torch.tensor([sum(s.stop - s.start for s in group) for group in spans])
    columns = record.rates.repeat_interleave(sizes, 0).T
    rates: dict[str, Number] = {}
    for place, name in enumerate(FIELDS):
        same = len({row[place] for row in rows}) == 1
        rates[name] = rows[0][place] if same else columns[place]
    return rates
