"""Test rows whose targets are explained, bound to the replay that explains them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from unabridged.attribution.batches import Inputs, mapped, take
from unabridged.attribution.gradients import RowGradients
from unabridged.attribution.kinks import Along, Panels, Pointwise, cut_at_kinks
from unabridged.attribution.quadrature import Finish, Node
from unabridged.attribution.replay import Replay
from unabridged.attribution.targets import Target

__all__ = ["Explained"]


class Explained:
    """T test rows with their labels and target, and their values and gradients anywhere.

    Args:
        replay: whose model is evaluated.
        inputs: T rows, already in the replay's precision.
        labels: (T,) for the target.
        target: what is explained.
    """

    def __init__(self, replay: Replay, inputs: Inputs, labels: Tensor, target: Target) -> None:
        self.replay, self.inputs, self.labels, self.target = replay, inputs, labels, target

    def values(self, theta: Tensor) -> Tensor:
        """(T,) the targets at given parameters."""
        return self.replay.values(theta, self.inputs, self.labels, self.target)

    def slopes(self, theta: Tensor, rows: Tensor) -> RowGradients:
        """Gradients of some of the rows' targets at given parameters (P,)."""
        if len(rows) == len(self.labels):
            return self.replay.slopes(theta, self.inputs, self.labels, self.target)
        chosen = take(self.inputs, rows)
        return self.replay.slopes(theta, chosen, self.labels[rows], self.target)

    def along(self) -> Along:
        """Gradients and values of test rows, each at its own parameters."""
        replay = self.replay

        def one(theta: Tensor, inputs: Inputs, label: Tensor) -> Tensor:
            views = replay.layout.unflatten(theta)
            row = mapped(inputs, lambda tensor: tensor[None])
            if isinstance(row, Tensor):
                row = (row,)
            outputs = (
                functional_call(replay.model, views, row)
                if isinstance(row, tuple)
                else functional_call(replay.model, views, (), dict(row))
            )
            return self.target(outputs, label[None])[0]

        def everywhere(function: Callable[..., Tensor]) -> Pointwise:
            def at(thetas: Tensor, rows: Tensor) -> Tensor:
                replay.mode("eval")
                chosen = take(self.inputs, rows), self.labels[rows]
                found: Tensor = vmap(function)(thetas, *chosen)
                return found

            return at

        return Along(everywhere(grad(one)), everywhere(one))

    def finish(self) -> Finish | None:
        """Cutting at kinks; None for models that cannot run with other parameters in every row."""
        replay, along = self.replay, self.along()
        try:
            along.gradients(replay.parameters(0)[None], torch.tensor([0]))
        except RuntimeError:  # torch.func has no batching rule for something the model does
            return None
        each = 16 * replay.layout.size * (torch.finfo(replay.precision).bits // 8)
        size = max(1, replay.budget // each)

        def cut(
            theta: Tensor, change: Tensor, rows: Tensor, rises: Tensor, allowed: float
        ) -> tuple[list[Node], int]:
            nodes, spent = list[Node](), 0
            for chosen, rise in zip(torch.split(rows, size), torch.split(rises, size), strict=True):
                zero = torch.zeros_like(rise)
                base = along.values(theta.expand(len(chosen), -1), chosen)
                panels = Panels(chosen, zero, zero + 1, base, base + rise)
                found, cost = cut_at_kinks(along, theta, change, panels, allowed=allowed / 4)
                nodes, spent = nodes + found, spent + cost
            return nodes, spent

        return cut
