"""A trained model as a kernel machine, and how far it is one.

    f(x) = β(x) + Σ_i Σ_c α_ic(x) K_c(x, x_i),      K_c = Σ_s η_s w_s ⟨G_s(x), ∇f_c(x_i; θ_s)⟩

with α_ic(x) the derivative of example i's loss by output c, negated and averaged over the run with
the kernel's own summands as weights. A support vector machine has α_ic free of x. Whether that
holds is a number here: the share of Σ c² that no constant α_ic explains, where c = α K.

Source: Domingos (2020), theorem 1 (his a_i and K, for one output and gradient flow). We depart in
the discrete path, any number of outputs, and in measuring the dependence of α on x.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unabridged.attribution.batches import Inputs, cast
from unabridged.attribution.explained import Explained
from unabridged.attribution.path_kernel import walk
from unabridged.attribution.quadrature import Node
from unabridged.attribution.replay import Replay
from unabridged.attribution.steps import TakenStep
from unabridged.attribution.targets import Target
from unabridged.attribution.traces import Backtrace

__all__ = ["KernelMachine", "kernel_machine"]


@dataclass(frozen=True)
class KernelMachine:
    """T targets as sums over n training examples and C outputs of the model.

    Law: `beta + (alpha * kernel).sum((1, 2)) + residual` is `prediction`.

    Attributes:
        ids: (n,) training ids.
        kernel: (T, n, C) path kernel between test rows and the outputs of training rows.
        parts: (T, n, C) contributions, α times K.
        beta: (T,) start, decay and rounding.
        residual: (T,) left by the quadrature.
        prediction: (T,) the targets after training.
    """

    ids: Tensor
    kernel: Tensor
    parts: Tensor
    beta: Tensor
    residual: Tensor
    prediction: Tensor

    @property
    def alpha(self) -> Tensor:
        """(T, n, C) the dual weights; zero where the kernel is."""
        safe = torch.where(self.kernel == 0, torch.ones_like(self.kernel), self.kernel)
        return torch.where(self.kernel == 0, torch.zeros_like(self.parts), self.parts / safe)

    @property
    def constant_alpha(self) -> Tensor:
        """(n, C) the weights without x that explain most: least squares of parts on kernel."""
        power = (self.kernel**2).sum(0)
        floor = torch.finfo(power.dtype).tiny
        return (self.parts * self.kernel).sum(0) / power.clamp(min=floor)

    @property
    def dispersion(self) -> float:
        """How far α depends on x: share of Σ parts² that constant weights leave; 0 for an SVM."""
        left = self.parts - self.constant_alpha * self.kernel
        return float((left**2).sum() / (self.parts**2).sum())


def kernel_machine(
    replay: Replay, inputs: Inputs, labels: Tensor, *, target: Target, tolerance: float = 1e-6
) -> KernelMachine:
    """Write targets as a kernel machine; takes memory for T · n · C numbers, twice.

    Args:
        replay: a recorded run whose model returns (N, C) outputs.
        inputs: T test rows.
        labels: (T,) handed to `target`.
        target: what is written as a sum, row by row.
        tolerance: as in `path_kernel`.
    """
    tests = Explained(replay, cast(inputs, replay.precision), labels, target)
    outputs = replay.outputs(next(replay.backwards()).steps[-1], 0).shape[1]
    trace = KernelTrace(replay, len(labels), outputs)
    path = walk(tests, tolerance, trace)
    beta = path.start + trace.decay + path.rounding
    residual = path.prediction - beta - trace.parts.sum((1, 2))
    return KernelMachine(replay.ids, trace.kernel, trace.parts, beta, residual, path.prediction)


class KernelTrace:
    """Sums kernels and contributions apart, output by output."""

    def __init__(self, replay: Replay, count: int, outputs: int) -> None:
        self.replay = replay
        self.kernel = torch.zeros(count, len(replay.ids), outputs, dtype=replay.precision)
        self.parts = torch.zeros_like(self.kernel)
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
        for index, ids in enumerate(step.record.ids):
            columns = self.replay.columns(ids)
            weight = self.replay.weight(step.record, index)
            slopes = self.replay.output_slopes(step, index) / weight  # (N, C)
            for output in range(slopes.shape[1]):
                gradients = self.replay.output_gradients(step, index, output)
                kernel = gradients.against(trace) * (step.clip * weight)
                self.kernel[:, :, output].index_add_(1, columns, kernel)
                self.parts[:, :, output].index_add_(1, columns, -kernel * slopes[:, output])
