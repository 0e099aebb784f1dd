"""What a model is fed: a tensor, a tuple of tensors, or a dictionary of tensors, rows first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Batch", "Data", "Inputs", "TensorData", "call", "cast", "rows_of", "take"]

Inputs = Tensor | tuple[Tensor, ...] | Mapping[str, Tensor]
"""Arguments of the model; the first axis of every tensor counts the rows."""

Batch = tuple[Inputs, Tensor]
"""Inputs and targets of the same rows."""

Data = Callable[[Tensor], Batch]
"""From (N,) int64 ids to the rows with those ids. Where it draws random numbers (augmentation), it
draws them from torch's global generator, whose state the recorder keeps."""


@dataclass(frozen=True)
class TensorData:
    """Training rows held in memory; the id of a row is its index.

    >>> data = TensorData(torch.arange(6.0).view(3, 2), torch.tensor([0, 1, 0]))
    >>> data(torch.tensor([2]))
    (tensor([[4., 5.]]), tensor([0]))
    """

    inputs: Inputs
    targets: Tensor

    def __call__(self, ids: Tensor) -> Batch:
        """The rows with these ids, in this order."""
        return take(self.inputs, ids), self.targets[ids]

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self.targets)


def mapped(inputs: Inputs, change: Callable[[Tensor], Tensor]) -> Inputs:
    """Apply one function to every tensor of the inputs."""
    if isinstance(inputs, Tensor):
        return change(inputs)
    if isinstance(inputs, Mapping):
        return {name: change(tensor) for name, tensor in inputs.items()}
    return tuple(change(tensor) for tensor in inputs)


def take(inputs: Inputs, rows: Tensor | slice) -> Inputs:
    """The chosen rows."""
    return mapped(inputs, lambda tensor: tensor[rows])


def cast(inputs: Inputs, dtype: torch.dtype) -> Inputs:
    """Floating tensors in `dtype`; whole numbers as they are."""
    return mapped(inputs, lambda t: t.to(dtype) if t.is_floating_point() else t)


def rows_of(inputs: Inputs) -> int:
    """How many rows the inputs have."""
    if isinstance(inputs, Tensor):
        return len(inputs)
    return len(next(iter(inputs.values() if isinstance(inputs, Mapping) else inputs)))


def named(inputs: Inputs) -> dict[str, Tensor]:
    """The tensors under names fit for a file: "", "0", "1", … or the dictionary's own."""
    if isinstance(inputs, Tensor):
        return {"": inputs}
    if isinstance(inputs, Mapping):
        return {f".{name}": tensor for name, tensor in inputs.items()}
    return {str(index): tensor for index, tensor in enumerate(inputs)}


def unnamed(tensors: Mapping[str, Tensor]) -> Inputs:
    """The inverse of `named`.

    >>> unnamed(named((torch.ones(1), torch.zeros(1))))
    (tensor([1.]), tensor([0.]))
    """
    if "" in tensors:
        return tensors[""]
    if all(name.startswith(".") for name in tensors):
        return {name[1:]: tensor for name, tensor in tensors.items()}
    return tuple(tensors[str(index)] for index in range(len(tensors)))


def call(model: nn.Module, inputs: Inputs) -> Any:  # noqa: ANN401 - whatever the model returns
    """Run the model on its inputs, spread as it expects them."""
    if isinstance(inputs, Tensor):
        return model(inputs)
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs)
