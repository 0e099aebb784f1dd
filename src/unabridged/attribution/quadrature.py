"""The gradient of a target averaged along one optimiser step, by Gauss-Legendre nodes.

    f(θ + Δ) − f(θ) = ⟨G, Δ⟩,   G = ∫₀¹ ∇f(θ + tΔ) dt

is the fundamental theorem of calculus; a rule with Q nodes leaves an error O(|Δ|^(2Q+1)), which two
forward passes measure. Rows that are not accurate enough get a finer rule, the others do not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from unabridged.attribution.gradients import RowGradients

__all__ = ["RULES", "Integrator", "Node", "nodes_and_weights"]

RULES = ((1, 1), (1, 2), (1, 3), (1, 5), (4, 4), (16, 4))
"""The ladder of rules, coarse to fine: (panels, nodes in each)."""

SMOOTH = 3
"""Index in `RULES` of the last rule worth trying before a step is cut at its kinks."""

Slopes = Callable[[Tensor, Tensor], RowGradients]
"""From (P,) parameters and (R,) indices of test rows to the gradients of these rows."""


Finish = Callable[[Tensor, Tensor, Tensor, Tensor, float], tuple[list["Node"], int]]
"""From parameters, change, rows (R,), their rises (R,) and the allowed error to nodes, and how many
gradients were spent."""


@cache
def nodes_and_weights(panels: int, nodes: int) -> tuple[tuple[float, float], ...]:
    """Points in [0, 1] and weights of a composite Gauss-Legendre rule; the weights sum to 1.

    >>> nodes_and_weights(1, 1)
    ((0.5, 1.0),)
    """
    points, weights = np.polynomial.legendre.leggauss(nodes)
    return tuple(
        (float((panel + (point + 1) / 2) / panels), float(weight / 2 / panels))
        for panel in range(panels)
        for point, weight in zip(points, weights, strict=True)
    )


@dataclass(frozen=True)
class Node:
    """Gradients at one point of a segment, already times their weight, for some test rows.

    Attributes:
        rows: (R,) which test rows, the same one possibly several times; None for all, in order.
        slopes: R weighted gradients.
    """

    rows: Tensor | None
    slopes: RowGradients

    def add(self, total: Tensor, values: Tensor) -> None:
        """Add one value a gradient to (T, …) `total`, at the rows that the gradients belong to."""
        if self.rows is None:
            total += values
        else:
            total.index_add_(0, self.rows, values)


@dataclass
class Integrator:
    """Chooses a rule for every step and row, and remembers which rule the last step needed.

    Attributes:
        slopes: gradients of test rows at given parameters.
        bound: the error that all steps together should leave in one row at most.
        steps: how many steps there will be.
        finish: what to do for rows that the smooth rules cannot integrate; None: the finest rules.
        level: index in `RULES` to start from.
        spent: gradient rows computed so far, a measure of the work.
    """

    slopes: Slopes
    bound: float
    steps: int
    finish: Finish | None = None
    level: int = 1
    spent: int = 0
    _left: Tensor | None = None

    def over(self, theta: Tensor, change: Tensor, rise: Tensor) -> list[Node]:
        """Nodes along the step from `theta` by `change`, given each row's true rise (T,)."""
        if not bool(change.any()):
            return []
        if self._left is None:
            self._left = torch.zeros_like(rise)
        allowed = self.allowed
        level, finest = self.level, SMOOTH if self.finish else len(RULES) - 1
        rows = torch.arange(len(rise))
        kept: list[Node] = []
        while True:
            nodes = self._rule(theta, change, rows, level)
            left = rise[rows] - torch.stack([node.along(change) for node in nodes]).sum(0)
            bad = left.abs() > allowed
            if level == self.level:
                self._learn(left.abs(), allowed)
            if level == finest and self.finish is None:
                bad = torch.zeros_like(bad)
            self._account(rows[~bad], left[~bad])
            kept += _chosen(nodes, rows, ~bad, everything=len(rise))
            rows, level = rows[bad], level + 1
            if len(rows) == 0:
                return kept
            if level > finest and self.finish is not None:
                cut, spent = self.finish(theta, change, rows, rise[rows], allowed)
                self.spent += spent
                return [*kept, *cut]

    def _rule(self, theta: Tensor, change: Tensor, rows: Tensor, level: int) -> list[RowGradients]:
        points = nodes_and_weights(*RULES[level])
        self.spent += len(points) * len(rows)
        return [self._weighted(theta + t * change, rows, w) for t, w in points]

    def _weighted(self, theta: Tensor, rows: Tensor, weight: float) -> RowGradients:
        return self.slopes(theta, rows).scaled(theta.new_full((len(rows),), weight))

    @property
    def allowed(self) -> float:
        """The error that the next step may leave in one row.

        Errors of many steps partly cancel, so a step may leave more than its equal share, as long
        as the running sum stays away from the bound.
        """
        room = self.bound if self._left is None else self.bound - float(self._left.abs().max())
        return 0.3 * self.bound / self.steps + max(room, 0.0) / (4 * math.sqrt(self.steps))

    def _account(self, rows: Tensor, left: Tensor) -> None:
        if self._left is not None:
            self._left.index_add_(0, rows, left)

    def _learn(self, error: Tensor, allowed: float) -> None:
        share = float((error > allowed).double().mean())
        if share > 0.3 and self.level < SMOOTH:
            self.level += 1
        elif float(error.max()) < 1e-3 * allowed and self.level > 0:
            self.level -= 1


def _chosen(
    nodes: list[RowGradients], rows: Tensor, good: Tensor, *, everything: int
) -> list[Node]:
    if not bool(good.any()):
        return []
    together = nodes[0].plus(nodes[1:])
    if bool(good.all()):
        return [Node(None if len(rows) == everything else rows, together)]
    return [Node(rows[good], together.chosen(good))]
