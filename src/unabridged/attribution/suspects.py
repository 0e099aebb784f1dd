"""Training examples whose labels look wrong: those that nothing but themselves taught the model.

The ledger of an example's own margin says how much of it the example contributed itself. What is
left, `margin − own contribution`, is what the start and all other examples make of its label. Where
that is negative the rest of the training set argues for another label.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unabridged.attribution.batches import Inputs, cast, rows_of, take
from unabridged.attribution.path_kernel import path_kernel
from unabridged.attribution.replay import Replay
from unabridged.attribution.targets import Target, cross_entropy_of, margin

__all__ = ["Suspicions", "suspects"]


@dataclass(frozen=True)
class Suspicions:
    """For n training examples, what speaks for and against their labels.

    Attributes:
        ids: (n,) training ids, as given.
        margin: (n,) log-odds of the label after training.
        own: (n,) the part of it that the example contributed itself.
        loss: (n,) final training loss, the trivial indicator of a wrong label.
    """

    ids: Tensor
    margin: Tensor
    own: Tensor
    loss: Tensor

    @property
    def others(self) -> Tensor:
        """(n,) the margin without the example's own contribution; low is suspicious."""
        return self.margin - self.own

    def ranked(self) -> Tensor:
        """(n,) ids, the most suspicious label first.

        >>> one, own = torch.ones(3), torch.tensor([0.0, 3.0, 1.0])
        >>> Suspicions(torch.tensor([5, 6, 7]), 2 * one, own, one).ranked()
        tensor([6, 7, 5])
        """
        return self.ids[self.others.argsort()]


def suspects(
    replay: Replay,
    ids: Tensor,
    inputs: Inputs,
    labels: Tensor,
    *,
    target: Target = margin,
    tolerance: float = 1e-3,
) -> Suspicions:
    """Weigh the labels of training examples.

    Args:
        replay: a recorded run.
        ids: (n,) the training ids of the rows given.
        inputs: the n rows as they are, without augmentation.
        labels: (n,) the labels they were trained with.
        target: what speaks for a label; larger must mean more.
        tolerance: of the ledgers; the ranking needs no more than three digits.
    """
    inputs, columns = cast(inputs, replay.precision), replay.columns(ids)
    itemsize = torch.finfo(replay.precision).bits // 8
    size = max(1, replay.budget // (4 * itemsize * len(replay.ids)))
    margins, own = [], []
    for start in range(0, rows_of(inputs), size):
        rows = slice(start, start + size)
        ledger = path_kernel(
            replay, take(inputs, rows), labels[rows], target=target, tolerance=tolerance
        )
        margins.append(ledger.prediction)
        places = columns[rows]
        own.append(ledger.contributions.gather(1, places[:, None])[:, 0])
    end = replay.parameters(-1)
    loss = replay.values(end, inputs, labels, cross_entropy_of)
    return Suspicions(ids, torch.cat(margins), torch.cat(own), loss)
