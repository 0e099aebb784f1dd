"""What leaving out or re-weighting training examples would have done, by the backward replay.

Multiply the loss of example i, wherever it occurs, by w_i. The derivative of a target after
training by w_i at w = 1 is exact and costs one backward pass through the whole run: a cotangent of
the parameters (and of the optimiser's buffers) is carried from the last step to the first,

    λ_s = (1 − δ_s) λ_{s+1} + ω_s ẑ_s + H_s ĝ_s,      ∂f/∂w_i += ⟨ĝ_s, ∇ℓ_i(θ_s)⟩,

where ẑ and ĝ are the cotangents of the optimiser's input before and after clipping, and H_s is the
Hessian of the step's weighted loss. For plain SGD ĝ_s = −η_s λ_{s+1}.

Sources: Hara et al. (2019), Data cleansing for models trained with SGD; Ilyas and Engstrom (2025),
MAGIC. We depart in differentiating clipping and Adam's preconditioner in closed form.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from unabridged.attribution.batches import Inputs, cast, rows_of, take
from unabridged.attribution.explained import Explained
from unabridged.attribution.optimizers import Number
from unabridged.attribution.replay import Replay
from unabridged.attribution.steps import TakenStep
from unabridged.attribution.targets import Target

__all__ = ["Effects", "adjoint"]

Removal = Literal["zero", "renormalise"]


@dataclass(frozen=True)
class Effects:
    """Derivatives of T targets after training by the weights of n training examples.

    Attributes:
        ids: (n,) training ids, ascending.
        values: (T, n) ∂ target / ∂ weight at weight 1.
        prediction: (T,) the targets as the model was trained.
    """

    ids: Tensor
    values: Tensor
    prediction: Tensor

    def reweighted(self, weights: Tensor) -> Tensor:
        """(T,) first-order prediction of the targets after training with (n,) other weights."""
        if weights.shape != self.ids.shape:
            raise ValueError(
                f"Effects.reweighted: weights have shape {tuple(weights.shape)}; wanted one for "
                f"each of the {len(self.ids)} training ids."
            )
        return self.prediction + self.values @ (weights.to(self.values.dtype) - 1)

    def predict_without(self, ids: Tensor) -> Tensor:
        """(T,) first-order prediction of the targets after training without the given ids.

        >>> ids, values = torch.tensor([4, 7]), torch.tensor([[0.5, -0.25]])
        >>> Effects(ids, values, torch.tensor([2.0])).predict_without(torch.tensor([7]))
        tensor([2.2500])
        """
        unknown = ids[~torch.isin(ids, self.ids)]
        if len(unknown):
            raise ValueError(
                f"predict_without: id {int(unknown[0])} took no part in training; "
                f"wanted ids among the {len(self.ids)} recorded ones."
            )
        return self.reweighted((~torch.isin(self.ids, ids)).to(self.values.dtype))


def adjoint(
    replay: Replay,
    inputs: Inputs,
    labels: Tensor,
    *,
    target: Target,
    removal: Removal = "zero",
) -> Effects:
    """Differentiate targets after training by the weight of every training example.

    Args:
        replay: a recorded run.
        inputs: T test rows.
        labels: (T,) handed to `target` with the model's outputs.
        target: what is explained, row by row.
        removal: what a smaller weight means. "zero": the row's loss shrinks and the batch is still
            divided by its old size. "renormalise": the batch is divided by the sum of weights.

    Returns:
        Effects in the replay's precision; exact derivatives, whatever the optimiser.
    """
    inputs = cast(inputs, replay.precision)
    itemsize = torch.finfo(replay.precision).bits // 8
    size = max(1, replay.budget // (12 * itemsize * replay.layout.size))
    values, predictions = [], []
    for start in range(0, rows_of(inputs), size):
        rows = slice(start, start + size)
        tests = Explained(replay, take(inputs, rows), labels[rows], target)
        effects, prediction = _backward(tests, removal)
        values.append(effects)
        predictions.append(prediction)
    return Effects(replay.ids, torch.cat(values), torch.cat(predictions))


def _backward(tests: Explained, removal: Removal) -> tuple[Tensor, Tensor]:
    replay = tests.replay
    end = replay.parameters(-1)
    prediction = tests.values(end)
    every = torch.arange(len(prediction))
    cotangent = Cotangent.of(tests.slopes(end, every).rows(end))
    effects = torch.zeros(len(prediction), len(replay.ids), dtype=replay.precision)
    for segment in replay.backwards():
        for step in reversed(segment.steps):
            through, cotangent = cotangent.before(step)
            for ids, products, curved in _passes(replay, step, through):
                if removal == "renormalise":
                    products = products - products.mean(1, keepdim=True)
                effects.index_add_(1, replay.columns(ids), products)
                cotangent.theta.add_(curved)
    return effects, prediction


@dataclass(frozen=True)
class Cotangent:
    """Derivatives of T targets by the parameters and the optimiser's buffers, each (T, P)."""

    theta: Tensor
    buffer: Tensor | None
    square: Tensor | None

    @classmethod
    def of(cls, theta: Tensor) -> Cotangent:
        """At the end of training, where buffers no longer matter."""
        return cls(theta, None, None)

    def before(self, step: TakenStep) -> tuple[Tensor, Cotangent]:
        """Carry the cotangent from after a step to before it.

        Returns:
            (T, P) the cotangent of the unclipped gradient, and the cotangent before the step
            without what passes through that gradient, which the caller adds.
        """
        rates, z = step.coefficients, step.z
        through = -rates.nu * self.theta
        buffer = square = None
        if rates.remembers:
            raw = -rates.xi * self.theta
            if self.buffer is not None:
                raw = raw + self.buffer
            buffer = rates.rho * raw
            through = through + rates.kappa * raw
        if isinstance(rates.slope, Tensor):
            moved = rates.rho * step.before.moments.buffer + rates.kappa * z
            raw = -(rates.slope * moved) * self.theta
            if self.square is not None:
                raw = raw + self.square
            square = rates.beta2 * raw
            through = through + raw * (2 * (1 - rates.beta2) * z)
        theta = _less(self.theta, rates.delta) + rates.omega * through
        return _unclipped(step, through), Cotangent(theta, buffer, square)


def _less(theta: Tensor, delta: Number) -> Tensor:
    return theta * (1 - delta)


def _unclipped(step: TakenStep, through: Tensor) -> Tensor:
    """Pull (T, P) cotangents of the clipped gradient back through g ↦ g · c / (|g| + 1e-6)."""
    if step.clip >= 1.0:
        return through
    norm = step.gradient.norm()
    along = (through @ step.gradient)[:, None] * step.gradient
    pulled: Tensor = step.clip * (through - along / (norm * (norm + 1e-6)))
    return pulled


def _passes(
    replay: Replay, step: TakenStep, through: Tensor
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """For every pass: ids (N,), products with its row gradients (T, N), Hessian products (T, P)."""
    for index, (ids, gradients) in enumerate(replay.row_gradients(step)):
        products = gradients.against(through)
        yield ids, products, replay.hessian_products(step, index, through)
