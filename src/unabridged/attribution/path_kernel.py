"""Contributions of every training example to predictions, complete by construction.

For any optimiser whose step is linear in past gradients (see `optimizers`), with G_s the gradient
of the target averaged along step s (see `quadrature`) and frozen coefficients, the backward trace

    B_s = ξ_s G_s + ρ_{s+1} B_{s+1},      A_s = ν_s G_s + κ_s B_s

turns Σ_s ⟨G_s, Δ_s⟩ into Σ_s −⟨A_s, z_s⟩ − ⟨G_s, δ_s θ_s⟩, and z_s is a sum over a batch's rows.

Sources: Domingos (2020), Every model learned by gradient descent is approximately a kernel
machine; Bell et al. (2023), An exact kernel equivalence for finite classification models, for the
exact step. We depart in the optimisers covered (theirs is gradient descent) and in adaptive nodes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unabridged.attribution.batches import Inputs, cast, rows_of, take
from unabridged.attribution.explained import Explained
from unabridged.attribution.ledger import Ledger
from unabridged.attribution.optimizers import Number
from unabridged.attribution.quadrature import Integrator, Node
from unabridged.attribution.replay import Replay
from unabridged.attribution.steps import TakenStep
from unabridged.attribution.targets import Target

__all__ = ["path_kernel"]


def path_kernel(
    replay: Replay,
    inputs: Inputs,
    labels: Tensor,
    *,
    target: Target,
    tolerance: float = 1e-6,
) -> Ledger:
    """Share the change of `target` during training out among the training examples.

    Args:
        replay: a recorded run.
        inputs: T test rows.
        labels: (T,) handed to `target` with the model's outputs.
        target: what is explained, row by row; see `targets`.
        tolerance: wanted bound on the residual, as a share of the mean |change|. Nodes are added on
            steps and rows until it holds or the finest rule is reached.

    Returns:
        A `Ledger` in float64, or in the replay's precision.
    """
    inputs = cast(inputs, replay.precision)
    count = rows_of(inputs)
    if labels.shape[:1] != (count,):
        raise ValueError(
            f"path_kernel: inputs have {count} rows and labels shape {tuple(labels.shape)}; "
            "give one label a row (whatever `target` needs)."
        )
    size = _chunk(replay, inputs, labels, target)
    pieces = []
    for start in range(0, count, size):
        rows = slice(start, min(start + size, count))
        explained = Explained(replay, take(inputs, rows), labels[rows], target)
        pieces.append(_explain(explained, tolerance))
    return _joined(replay.ids, pieces)


def _explain(tests: Explained, tolerance: float) -> Ledger:
    replay = tests.replay
    start, prediction = tests.values(replay.parameters(0)), tests.values(replay.parameters(-1))
    scale = float((prediction - start).abs().mean())
    integrator = Integrator(tests.slopes, tolerance * scale, replay.steps, tests.finish())
    trace: Trace = (
        GhostTrace(replay, len(start)) if _forgets(replay) else DenseTrace(replay, len(start))
    )
    rounding = torch.zeros_like(start)
    for segment in replay.backwards():
        after = tests.values(segment.steps[-1].theta + segment.steps[-1].change)
        rounding += tests.values(segment.end) - after
        for step in reversed(segment.steps):
            before = tests.values(step.theta)
            trace.add(step, integrator.over(step.theta, step.change, after - before))
            after = before
    explained = start + trace.contributions.sum(1) + trace.decay + rounding
    return Ledger(
        ids=replay.ids,
        contributions=trace.contributions,
        start=start,
        decay=trace.decay,
        rounding=rounding,
        residual=prediction - explained,
        prediction=prediction,
        gradients_spent=integrator.spent,
    )


def _forgets(replay: Replay) -> bool:
    """Whether no gradient acts beyond its step, and all parameters share their rates."""
    if replay.family.kind != "sgd":
        return False
    return all(
        len({tuple(row) for row in rates.tolist()}) == 1 and float(rates[:, 1].abs().max()) == 0
        for rates in replay.rates
    )


class GhostTrace:
    """Contributions under plain SGD: pairs of factors, no gradient is ever formed."""

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


class DenseTrace:
    """Contributions under any optimiser: (T, P) averaged gradients and their backward trace."""

    def __init__(self, replay: Replay, count: int) -> None:
        self.replay = replay
        self.contributions = torch.zeros(count, len(replay.ids), dtype=replay.precision)
        self.decay = torch.zeros(count, dtype=replay.precision)
        self._buffer = torch.zeros(count, replay.layout.size, dtype=replay.precision)
        self._rho: Number = 0.0

    def add(self, step: TakenStep, nodes: list[Node]) -> None:
        """Account for one step, given the averaged test gradients as nodes."""
        rates = step.coefficients
        average = self._average(nodes)
        self._buffer.mul_(self._rho)
        self._buffer.addcmul_(average, torch.as_tensor(rates.xi, dtype=average.dtype))
        self._rho = rates.rho
        trace = self._buffer * rates.kappa
        if isinstance(rates.nu, Tensor) or rates.nu != 0.0:
            trace += rates.nu * average
        self.decay -= trace @ (rates.omega * step.theta) + average @ (rates.delta * step.theta)
        for ids, gradients in self.replay.row_gradients(step):
            products = gradients.against(trace).mul_(-step.clip)
            self.contributions.index_add_(1, self.replay.columns(ids), products)

    def _average(self, nodes: list[Node]) -> Tensor:
        average = torch.zeros_like(self._buffer)
        for node in nodes:
            if node.rows is None:
                node.slopes.add_rows(average)
            else:
                node.add(average, node.slopes.rows(average))
        return average


Trace = GhostTrace | DenseTrace


def _chunk(replay: Replay, inputs: Inputs, labels: Tensor, target: Target) -> int:
    """How many test rows fit the replay's budget at once."""
    one = replay.slopes(replay.parameters(0), take(inputs, slice(0, 1)), labels[:1], target)
    itemsize = torch.finfo(replay.precision).bits // 8
    formed = 0 if _forgets(replay) else 5 * replay.layout.size * itemsize
    each = formed + 12 * one.bytes + 2 * len(replay.ids) * itemsize
    return max(1, replay.budget // each)


def _joined(ids: Tensor, pieces: list[Ledger]) -> Ledger:
    if len(pieces) == 1:
        return pieces[0]
    names = ("contributions", "start", "decay", "rounding", "residual", "prediction")
    joined = {name: torch.cat([getattr(piece, name) for piece in pieces]) for name in names}
    spent = sum(piece.gradients_spent for piece in pieces)
    return Ledger(ids=ids, **joined, gradients_spent=spent)
