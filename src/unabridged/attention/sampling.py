"""Errors at sampled rows, so that nobody needs a matrix of queries by keys to know them.

Axes: B texts, H heads, R sampled rows, Dv width of a value.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["relative_error", "sampled_rows"]


def sampled_rows(tokens: int, rows: int, *, seed: int = 0) -> Tensor:
    """(min(rows, tokens),) different rows in ascending order; equal seeds give equal rows.

    >>> sampled_rows(5, 9).tolist()
    [0, 1, 2, 3, 4]
    """
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(tokens, generator=generator)[:rows].sort().values


def relative_error(got: Tensor, wanted: Tensor) -> Tensor:
    """(B, H): |got - wanted|_F / |wanted|_F over the rows of (B, H, R, Dv); 0 where both are 0.

    >>> one = torch.ones(1, 1, 2, 3)
    >>> relative_error(1.5 * one, one).item()
    0.5
    """
    wanted = wanted.double()
    lost = torch.linalg.vector_norm((got.double() - wanted).flatten(2), dim=-1)
    size = torch.linalg.vector_norm(wanted.flatten(2), dim=-1)
    return torch.where(lost == 0, 0.0, lost / size)
