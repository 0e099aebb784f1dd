"""How alike two rows are to a trained model, whatever each of them taught it.

As a kernel machine a model is f(x) = β + Σ α_i K(x, x_i). The contribution α_i K says what example
i added; an example that was fitted early has a small α_i and adds little, be it a copy of x. Here
is K alone, at the end of training and normalised,

    K̂(x, x_i) = ⟨∇f(x), ∇f(x_i)⟩ / |∇f(x)| |∇f(x_i)|,

which is 1 for a copy and, by Cauchy and Schwarz, for nothing that f's gradients tell apart from it.
Source: the tangent kernel of Jacot et al. (2018); the normalisation is RelatIF's (Barshan et al.
2020) without the Hessian. We depart in taking f, not the loss, so that labels play no part.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unabridged.attribution.batches import Inputs, cast, rows_of, take
from unabridged.attribution.gradients import RowGradients
from unabridged.attribution.replay import Replay
from unabridged.attribution.targets import Target

__all__ = ["alikeness"]

BLOCK = 32


def alikeness(
    replay: Replay, row: Inputs, label: Tensor, others: Inputs, *, target: Target
) -> Tensor:
    """Cosines of the target's gradients at the end of training, between one row and others.

    Args:
        replay: a recorded run.
        row: one test row.
        label: (1,) handed to `target` for every row, the others' too.
        others: n rows, usually the training examples.
        target: f above, such as the logit of the predicted class.

    Returns:
        (n,) in [-1, 1]; 0 where a gradient vanishes.

    Raises:
        ValueError: more than one test row.
    """
    if rows_of(row) != 1 or label.shape[:1] != (1,):
        raise ValueError(
            f"alikeness: got {rows_of(row)} rows and labels of shape {tuple(label.shape)}; wanted "
            "one row with one label, so call it once a row."
        )
    end = replay.parameters(-1)
    mine = replay.slopes(end, cast(row, replay.precision), label, target)
    count = rows_of(others)
    size = max(1, replay.budget // (12 * mine.bytes))
    found = []
    for start in range(0, count, size):
        rows = cast(take(others, slice(start, start + size)), replay.precision)
        labels = label.expand(rows_of(rows), *label.shape[1:])
        theirs = replay.slopes(end, rows, labels, target)
        found.append((theirs.pairs(mine, end)[:, 0], _squares(theirs, end)))
    products = torch.cat([product for product, _ in found])
    squares = torch.cat([square for _, square in found]) * _squares(mine, end)
    floor = torch.finfo(replay.precision).tiny
    cosines = products / squares.clamp(min=floor).sqrt()
    return torch.where(squares > 0, cosines, torch.zeros_like(cosines)).clamp(-1, 1)


def _squares(gradients: RowGradients, like: Tensor) -> Tensor:
    """(N,) squared norms, from the diagonals of small tables of products."""
    parts = [gradients.chosen(rows) for rows in torch.split(torch.arange(gradients.count), BLOCK)]
    return torch.cat([part.pairs(part, like).diagonal() for part in parts])
