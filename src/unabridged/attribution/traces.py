"""What a walk along the training path adds up, step by step, last step first."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from unabridged.attribution.optimizers import FIELDS, Number
from unabridged.attribution.quadrature import Node
from unabridged.attribution.replay import Replay
from unabridged.attribution.steps import TakenStep

__all__ = ["Backtrace", "DenseTrace", "GhostTrace", "Trace", "forgets"]


class Trace(Protocol):
    """Receives every step of a walk; says what rounding of the optimiser's buffers added (T,)."""

    @property
    def rounding(self) -> Tensor:
        """(T,) from recorded buffers that differ from the replay's where segments meet."""
        ...

    def add(self, step: TakenStep, nodes: list[Node]) -> None:
        """Account for one step, given the averaged test gradients as nodes."""


def forgets(replay: Replay) -> bool:
    """Whether no gradient acts beyond its step, and all parameters share their rates."""
    if replay.family.kind != "sgd":
        return False
    momentum = FIELDS.index("momentum")
    return all(
        len({tuple(row) for row in rates.tolist()}) == 1
        and float(rates[:, momentum].abs().max()) == 0
        for rates in replay.rates
    )


class GhostTrace:
    """Contributions under plain SGD: pairs of factors, no gradient is ever formed."""

    @property
    def rounding(self) -> Tensor:
        """(T,) zeros: there is no buffer."""
        return torch.zeros_like(self.decay)

    def __init__(self, replay: Replay, count: int) -> None:
        self.replay = replay
        self.contributions = torch.zeros(count, len(replay.ids), dtype=replay.precision)
        self.decay = torch.zeros(count, dtype=replay.precision)

    def add(self, step: TakenStep, nodes: list[Node]) -> None:
        """Account for one step, given the averaged test gradients as nodes."""
        if not nodes:
            return
        rates = step.coefficients
        shrink = (rates.nu * rates.omega + rates.delta) * step.theta
        for node in nodes:
            node.add(self.decay, -node.slopes.along(shrink))
        for ids, gradients in self.replay.row_gradients(step):
            products = torch.zeros(len(self.decay), len(ids), dtype=shrink.dtype)
            for node in nodes:
                node.add(products, node.slopes.pairs(gradients, shrink))
            columns = self.replay.columns(ids)
            self.contributions.index_add_(1, columns, products * (-step.clip * rates.nu))


class Backtrace:
    """The averaged gradients G of a walk, carried backwards through the optimiser's memory.

    Attributes:
        rounding: (T,) what the recorded buffers add to the replay's own, where segments meet: the
            buffer b enters a step as -ρ⟨B, b⟩.
    """

    def __init__(self, replay: Replay, count: int) -> None:
        self.rounding = torch.zeros(count, dtype=replay.precision)
        self._later: Tensor | None = None
        self._buffer = torch.zeros(count, replay.layout.size, dtype=replay.precision)
        self._average = torch.zeros_like(self._buffer)
        self._rho: Number = 0.0

    def through(self, step: TakenStep, nodes: list[Node]) -> tuple[Tensor, Tensor]:
        """Take one more step back.

        Returns:
            (T, P) the trace A that the step's gradients meet, and (T,) what decay added.
        """
        rates = step.coefficients
        average = self._average.zero_()
        for node in nodes:
            if node.rows is None:
                node.slopes.add_rows(average)
            else:
                node.add(average, node.slopes.rows(average))
        self._buffer.mul_(self._rho)
        if rates.remembers:
            self._account_rounding(step)
        self._buffer.addcmul_(average, torch.as_tensor(rates.xi, dtype=average.dtype))
        self._rho = rates.rho
        trace = self._buffer * rates.kappa
        if isinstance(rates.nu, Tensor) or rates.nu != 0.0:
            trace += rates.nu * average
        decay = average.new_zeros(len(average))
        for matrix, strength in ((trace, rates.omega), (average, rates.delta)):
            if isinstance(strength, Tensor) or strength != 0.0:
                decay -= matrix @ (strength * step.theta)
        return trace, decay

    def _account_rounding(self, step: TakenStep) -> None:
        if self._later is not None:
            after = step.coefficients.advance(step.theta, step.before.moments, step.z)[1].buffer
            gap = self._later - after
            if bool(gap.any()):
                self.rounding -= self._buffer @ gap
        self._later = step.before.moments.buffer


class DenseTrace:
    """Contributions under any optimiser: (T, P) averaged gradients and their backward trace."""

    def __init__(self, replay: Replay, count: int) -> None:
        self.replay = replay
        self.contributions = torch.zeros(count, len(replay.ids), dtype=replay.precision)
        self.decay = torch.zeros(count, dtype=replay.precision)
        self._back = Backtrace(replay, count)

    @property
    def rounding(self) -> Tensor:
        """(T,) from the optimiser's buffers."""
        return self._back.rounding

    def add(self, step: TakenStep, nodes: list[Node]) -> None:
        """Account for one step, given the averaged test gradients as nodes."""
        trace, decay = self._back.through(step, nodes)
        self.decay += decay
        for ids, gradients in self.replay.row_gradients(step):
            products = gradients.against(trace).mul_(-step.clip)
            self.contributions.index_add_(1, self.replay.columns(ids), products)
