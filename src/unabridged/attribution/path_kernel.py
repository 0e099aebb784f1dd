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

from dataclasses import dataclass

import torch
from torch import Tensor

from unabridged.attribution.batches import Inputs, cast, rows_of, take
from unabridged.attribution.explained import Explained
from unabridged.attribution.ledger import Ledger
from unabridged.attribution.quadrature import Integrator
from unabridged.attribution.replay import Replay
from unabridged.attribution.targets import Target
from unabridged.attribution.traces import DenseTrace, GhostTrace, Trace, forgets

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
    replay, count = tests.replay, len(tests.labels)
    trace = GhostTrace(replay, count) if forgets(replay) else DenseTrace(replay, count)
    path = walk(tests, tolerance, trace)
    explained = path.start + trace.contributions.sum(1) + trace.decay + path.rounding
    return Ledger(
        ids=replay.ids,
        contributions=trace.contributions,
        start=path.start,
        decay=trace.decay,
        rounding=path.rounding,
        residual=path.prediction - explained,
        prediction=path.prediction,
        gradients_spent=path.spent,
    )


@dataclass(frozen=True)
class Path:
    """What a walk along the run saw of T targets: at both ends, and of the recording's rounding."""

    start: Tensor
    prediction: Tensor
    rounding: Tensor
    spent: int


def walk(tests: Explained, tolerance: float, trace: Trace) -> Path:
    """Hand every step, last first, to a trace, with the averaged gradients of the targets."""
    replay = tests.replay
    start, prediction = tests.values(replay.parameters(0)), tests.values(replay.parameters(-1))
    bound = tolerance * float((prediction - start).abs().mean())
    integrator = Integrator(tests.slopes, bound, replay.steps, tests.finish())
    rounding = torch.zeros_like(start)
    for segment in replay.backwards():
        after = tests.values(segment.steps[-1].theta + segment.steps[-1].change)
        rounding += tests.values(segment.end) - after
        for step in reversed(segment.steps):
            before = tests.values(step.theta)
            trace.add(step, integrator.over(step.theta, step.change, after - before))
            after = before
    return Path(start, prediction, rounding + trace.rounding, integrator.spent)


def _chunk(replay: Replay, inputs: Inputs, labels: Tensor, target: Target) -> int:
    """How many test rows fit the replay's budget at once."""
    one = replay.slopes(replay.parameters(0), take(inputs, slice(0, 1)), labels[:1], target)
    itemsize = torch.finfo(replay.precision).bits // 8
    formed = 0 if forgets(replay) else 5 * replay.layout.size * itemsize
    each = formed + 12 * one.bytes + 2 * len(replay.ids) * itemsize
    return max(1, replay.budget // each)


def _joined(ids: Tensor, pieces: list[Ledger]) -> Ledger:
    if len(pieces) == 1:
        return pieces[0]
    names = ("contributions", "start", "decay", "rounding", "residual", "prediction")
    joined = {name: torch.cat([getattr(piece, name) for piece in pieces]) for name in names}
    spent = sum(piece.gradients_spent for piece in pieces)
    return Ledger(ids=ids, **joined, gradients_spent=spent)
