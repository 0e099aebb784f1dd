"""Where a target is only piecewise smooth along a step (ReLU), cut the step at its kinks.

Gauss nodes assume smoothness; at a kink they leave an error proportional to the width of the panel.
Here each test row gets its own panels: a panel that does not integrate to the measured rise is cut
where two straight lines with the slopes of its outer nodes would meet, every third time in half.
All open panels are evaluated at once, each with its own parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from unabridged.attribution.factors import Dense
from unabridged.attribution.gradients import RowGradients
from unabridged.attribution.quadrature import Node, nodes_and_weights

__all__ = ["Along", "Panels", "cut_at_kinks"]

DEPTH = 40
"""Rounds of cutting; each halves a panel at worst, so 40 reach the resolution of float64."""

NODES = nodes_and_weights(1, 3)

Pointwise = Callable[[Tensor, Tensor], Tensor]
"""From (R, P) parameters, one set a row, and (R,) test rows to gradients (R, P) or values (R,)."""


@dataclass(frozen=True)
class Along:
    """Targets of test rows, each at parameters of its own.

    Attributes:
        gradients: (R, P) of them.
        values: (R,) of them; costs a third.
    """

    gradients: Pointwise
    values: Pointwise


@dataclass(frozen=True)
class Panels:
    """R pieces [left, right] of a step, each of one test row, with the target at both ends."""

    rows: Tensor
    left: Tensor
    right: Tensor
    at_left: Tensor
    at_right: Tensor

    @property
    def width(self) -> Tensor:
        """(R,) lengths, as shares of the step."""
        return self.right - self.left

    def chosen(self, mask: Tensor) -> Panels:
        """Some of the panels."""
        fields = (self.rows, self.left, self.right, self.at_left, self.at_right)
        return Panels(*(field[mask] for field in fields))

    def cut(self, points: Tensor, values: Tensor) -> Panels:
        """Every panel in two, at a point where the target's value is known."""
        first = replace(self, right=points, at_right=values)
        second = replace(self, left=points, at_left=values)
        both = zip(vars(first).values(), vars(second).values(), strict=True)
        return Panels(*(torch.cat(pair) for pair in both))


def cut_at_kinks(
    along: Along, theta: Tensor, change: Tensor, panels: Panels, *, allowed: float
) -> tuple[list[Node], int]:
    """Integrate the gradients of piecewise smooth targets over the given panels.

    Returns:
        Nodes of formed gradients, and how many gradients were computed.
    """
    points, weights = (theta.new_tensor(column) for column in zip(*NODES, strict=True))
    kept: list[Node] = []
    spent = 0
    for depth in range(DEPTH):
        count = len(panels.rows)
        where = (panels.left + points[:, None] * panels.width).flatten()  # node after node
        found = along.gradients(theta + where[:, None] * change, panels.rows.repeat(len(NODES)))
        gradients = found.view(len(NODES), count, -1)
        slopes = gradients @ change  # (nodes, R)
        spent += len(found)
        rise = panels.at_right - panels.at_left
        error = (rise - panels.width * (weights @ slopes)).abs()
        open_ = (error > allowed) & (depth < DEPTH - 1)
        if not bool(open_.all()):
            done = gradients[:, ~open_]
            average = torch.einsum("k,r,krp->rp", weights, panels.width[~open_], done)
            kept.append(_node(panels.rows[~open_], average))
        if not bool(open_.any()):
            break
        panels = panels.chosen(open_)
        cuts = _meeting(panels, slopes[0][open_], slopes[-1][open_], depth)
        values = along.values(theta + cuts[:, None] * change, panels.rows)
        panels = panels.cut(cuts, values)
    return kept, spent


def _meeting(panels: Panels, first: Tensor, last: Tensor, depth: int) -> Tensor:
    """(R,) where lines through both ends, with the outer nodes' slopes, meet; or the middle."""
    width, rise = panels.width, panels.at_right - panels.at_left
    share = (rise / width - last) / (first - last)
    if depth % 3 == 2:
        share = torch.full_like(share, 0.5)
    share = torch.nan_to_num(share, nan=0.5, posinf=0.5, neginf=0.5)
    outside = (share <= 0) | (share >= 1)
    return panels.left + width * torch.where(outside, torch.full_like(share, 0.5), share)


def _node(rows: Tensor, gradients: Tensor) -> Node:
    places = torch.arange(gradients.shape[1])
    part = (0, Dense(gradients, places))
    return Node(rows, RowGradients((part,), len(rows), len(places), disjoint=False))
