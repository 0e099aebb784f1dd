"""Similarities by sentence-transformers' names; each maps (n, D) and (m, D) to (n, m)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["SIMILARITIES"]


def _rows(vectors: Tensor) -> Tensor:
    return vectors[None] if vectors.ndim == 1 else vectors


def _cosine(left: Tensor, right: Tensor) -> Tensor:
    unit = torch.nn.functional.normalize
    return unit(_rows(left), dim=-1) @ unit(_rows(right), dim=-1).T


SIMILARITIES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cosine": _cosine,
    "dot": lambda left, right: _rows(left) @ _rows(right).T,
    "euclidean": lambda left, right: -torch.cdist(_rows(left), _rows(right)),
    "manhattan": lambda left, right: -torch.cdist(_rows(left), _rows(right), p=1),
}
