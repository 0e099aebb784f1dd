"""Add labelled examples to a trained model as kernel terms, without training.

    f⁺(x) = f(x) + Σ_j Σ_c a_jc ⟨∇f(x), ∇f_c(x_j)⟩

with gradients at the end of training (the tangent kernel). The weights a minimise the new examples'
loss plus |Δθ|² / 2τ, where Δθ = Σ a_jc ∇f_c(x_j) and τ is the time that an average training example
had: Σ_s η_s w_s over its steps. So a new example weighs what it would have weighed in training.

Source: the post's and Domingos's (2020, section 5) suggestion of learning by adding terms; the
regularisation by training time is ours (early-stopped gradient flow resembles ridge with λ = 1/τ).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unabridged.attribution.batches import Inputs, call, cast
from unabridged.attribution.gradients import RowGradients
from unabridged.attribution.optimizers import FIELDS
from unabridged.attribution.replay import Replay

__all__ = ["KernelTerms", "add_examples"]


@dataclass(frozen=True)
class KernelTerms:
    """A trained model and m added examples.

    Attributes:
        replay: the recorded run.
        gradients: for each of C outputs, the gradients of the m rows.
        weights: (m, C) the dual weights a.
    """

    replay: Replay
    gradients: tuple[RowGradients, ...]
    weights: Tensor

    def outputs(self, inputs: Inputs) -> Tensor:
        """(T, C) the model's outputs with the added terms."""
        replay = self.replay
        rows = cast(inputs, replay.precision)
        base, theirs = _tangent(replay, rows)
        kernel = _kernel(replay, theirs, self.gradients)  # (T, C, m, C)
        return base + torch.einsum("tcmk,mk->tc", kernel, self.weights)


def add_examples(
    replay: Replay, inputs: Inputs, labels: Tensor, *, time: float | None = None
) -> KernelTerms:
    """Fit the weights of m added examples; convex, and solved to convergence.

    Args:
        replay: a recorded run; its loss is used for the new examples too.
        inputs: m new rows.
        labels: (m,) their labels.
        time: τ; None takes what an average example had in the run.
    """
    rows = cast(inputs, replay.precision)
    base, gradients = _tangent(replay, rows)
    kernel = _kernel(replay, gradients, gradients)
    ridge = 1 / (time if time is not None else training_time(replay))
    weights = torch.zeros_like(base, requires_grad=True)
    solver = torch.optim.LBFGS(
        [weights],
        max_iter=1000,
        tolerance_grad=1e-10,
        tolerance_change=1e-15,
        line_search_fn="strong_wolfe",
    )

    def objective() -> float:
        with torch.enable_grad():
            moved = torch.einsum("tcmk,mk->tc", kernel, weights)
            loss = replay.loss(base + moved, labels).sum() + ridge / 2 * (moved * weights).sum()
            (weights.grad,) = torch.autograd.grad(loss, weights)
        return float(loss.detach())

    solver.step(objective)  # type: ignore[no-untyped-call]
    return KernelTerms(replay, gradients, weights.detach())


def training_time(replay: Replay) -> float:
    """τ, the sum of rate times loss weight over an average example's steps."""
    rates = replay.rates[:, :, FIELDS.index("lr")].mean(1)
    momentum = replay.rates[:, :, FIELDS.index("momentum")].mean(1)
    weighting = replay.recording.manifest.loop["weighting"]
    share = 1.0 if weighting == "sum" else 1.0 / len(replay.ids)
    return float((rates / (1 - momentum)).sum()) * share


def _tangent(replay: Replay, rows: Inputs) -> tuple[Tensor, tuple[RowGradients, ...]]:
    """Outputs (N, C) at the end of training, and for each output the rows' gradients."""
    end = replay.parameters(-1)
    replay.set(end)
    replay.mode("eval")
    with torch.no_grad():
        outputs: Tensor = call(replay.model, rows)
    every = tuple(
        replay.slopes(end, rows, outputs, lambda found, _, c=c: found[:, c])  # type: ignore[misc]
        for c in range(outputs.shape[1])
    )
    return outputs, every


def _kernel(
    replay: Replay, left: tuple[RowGradients, ...], right: tuple[RowGradients, ...]
) -> Tensor:
    """(T, C, m, C) inner products of the gradients of all pairs of outputs."""
    like = replay.parameters(-1)
    rows = [torch.stack([mine.pairs(theirs, like) for theirs in right], 2) for mine in left]
    return torch.stack(rows, 1)
