"""What of a prediction is to be explained: one number a row, from the outputs and the labels."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

__all__ = ["Target", "cross_entropy_of", "logit", "margin", "probability"]

Target = Callable[[Tensor, Tensor], Tensor]
"""From outputs (T, C) and labels (T,) to (T,) numbers, row by row."""


def logit(outputs: Tensor, labels: Tensor) -> Tensor:
    """The output at the label.

    >>> logit(torch.tensor([[1.0, 2.0, 4.0]]), torch.tensor([2]))
    tensor([4.])
    """
    return outputs.gather(1, labels[:, None])[:, 0]


def margin(outputs: Tensor, labels: Tensor) -> Tensor:
    """The log-odds of the label: its logit less the log-sum-exp of all others.

    >>> margin(torch.tensor([[1.0, 3.0]]), torch.tensor([1]))
    tensor([2.])
    """
    mask = torch.zeros_like(outputs).scatter(1, labels[:, None], float("-inf"))
    return logit(outputs, labels) - (outputs + mask).logsumexp(1)


def probability(outputs: Tensor, labels: Tensor) -> Tensor:
    """The softmax probability of the label.

    >>> probability(torch.zeros(1, 4), torch.tensor([1]))
    tensor([0.2500])
    """
    return outputs.softmax(1).gather(1, labels[:, None])[:, 0]


def cross_entropy_of(outputs: Tensor, labels: Tensor) -> Tensor:
    """The cross-entropy of the label, row by row; the usual training loss.

    >>> cross_entropy_of(torch.zeros(1, 2), torch.tensor([0]))
    tensor([0.6931])
    """
    return cross_entropy(outputs, labels, reduction="none")
