"""One optimiser step as a replay takes it, and the rates it takes it with."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unabridged.attribution.errors import RecordingError
from unabridged.attribution.layout import Layout
from unabridged.attribution.optimizers import FIELDS, Coefficients, Moments, Number
from unabridged.attribution.packing import StepRecord

__all__ = ["Segment", "TakenStep", "expanded_rates"]


@dataclass(frozen=True)
class TakenStep:
    """One optimiser step as it was replayed.

    Attributes:
        number: from 0.
        record: what was written down of it.
        theta: (P,) parameters before it.
        change: (P,) parameters after it less those before.
        gradient: (P,) before clipping.
        clip: the factor that clipping applied; 1 where it did nothing.
        coefficients: the realised recurrence.
        moments: the optimiser's buffers before it.
    """

    number: int
    record: StepRecord
    theta: Tensor
    change: Tensor
    gradient: Tensor
    clip: float
    coefficients: Coefficients
    moments: Moments

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
