"""The trained parameters of a model as one flat vector, which is how every formula here sees them.

Axis legend of this room: P trained parameters, N training rows of a step, T test rows,
S optimiser steps, C outputs, U positions within a row (tokens; 1 for plain vectors).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

__all__ = ["Layout"]


@dataclass(frozen=True)
class Layout:
    """Names, shapes and places of the trained parameters within a flat vector of length `size`.

    >>> layout = Layout.of(torch.nn.Linear(3, 2), ["weight", "bias"])
    >>> layout.size, layout.span("bias")
    (8, slice(6, 8, None))
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    starts: tuple[int, ...]

    @classmethod
    def of(cls, model: nn.Module, names: Iterable[str]) -> Layout:
        """Lay out the named parameters of `model` one after another, in the order given."""
        parameters = dict(model.named_parameters())
        kept = tuple(names)
        starts = [0]
        for name in kept:
            starts.append(starts[-1] + parameters[name].numel())
        shapes = tuple(tuple(parameters[name].shape) for name in kept)
        return cls(kept, shapes, tuple(starts))

    @property
    def size(self) -> int:
        """P, the number of trained scalars."""
        return self.starts[-1]

    def span(self, name: str) -> slice:
        """Where a parameter lies in the flat vector."""
        index = self.names.index(name)
        return slice(self.starts[index], self.starts[index + 1])

    def flatten(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """(P,) the named tensors, one after another."""
        return torch.cat([tensors[name].reshape(-1) for name in self.names])

    def unflatten(self, flat: Tensor) -> dict[str, Tensor]:
        """Views into `flat`, by name and in their own shapes."""
        places = pairwise(self.starts)
        return {
            name: flat[start:end].view(shape)
            for name, shape, (start, end) in zip(self.names, self.shapes, places, strict=True)
        }

    def bind(self, model: nn.Module, dtype: torch.dtype) -> Tensor:
        """Make the trained parameters of `model` views into one new vector, and return that vector.

        Writing into the vector then changes the model, at the cost of one copy.
        """
        parameters = dict(model.named_parameters())
        flat = self.flatten({name: parameters[name].detach() for name in self.names}).to(dtype)
        for name, view in self.unflatten(flat).items():
            parameters[name].data = view
        return flat
