"""Per-row gradients of one layer, kept as the two factors whose product they are.

For a layer y = W a the gradient of row n is the sum over its positions of (dy)(a)ᵀ. Inner products
of such gradients need no product formed: ⟨d aᵀ, d' a'ᵀ⟩ = (d·d')(a·a'), exactly.

Source: Goodfellow (2015), Efficient per-example gradient computations; the pairwise form is the
"ghost" product of Li et al. (2022). Axis letters: see `layout`.
"""

# The protocol says what each method does, once for all four classes.
# ruff: noqa: D102

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, Self

import torch
from torch import Tensor

__all__ = ["Dense", "EmbeddingFactors", "Factors", "LinearFactors", "NormFactors"]


class Factors(Protocol):
    """Gradients of N rows with respect to some of the trained parameters."""

    def total(self, flat: Tensor) -> None:
        """Add the sum over rows to (P,) `flat`."""

    def rows(self, matrix: Tensor) -> None:
        """Add the gradients to (N, P) `matrix`."""

    def along(self, direction: Tensor) -> Tensor:
        """(N,) inner products with a (P,) direction."""

    def against(self, directions: Tensor) -> Tensor:
        """(T, N) inner products with (T, P) directions."""

    def pairs(self, other: Self) -> Tensor:
        """(N, M) inner products with the gradients of M other rows, for the same layer."""

    def scaled(self, weights: Tensor) -> Self:
        """The gradients times (N,) weights."""

    def chosen(self, rows: Tensor) -> Self:
        """The gradients of some rows, by mask or index."""

    def plus(self, others: Sequence[Self]) -> Self:
        """The sum with other gradients of the same rows."""


@dataclass(frozen=True)
class LinearFactors:
    """`nn.Linear`: a (N, U, in) inputs, d (N, U, out) output gradients, and where W and b lie."""

    a: Tensor
    d: Tensor
    weight: slice | None
    bias: slice | None

    def total(self, flat: Tensor) -> None:
        d = self.d.flatten(0, 1)
        if self.weight is not None:
            flat[self.weight] += (d.T @ self.a.flatten(0, 1)).reshape(-1)
        if self.bias is not None:
            flat[self.bias] += d.sum(0)

    def rows(self, matrix: Tensor) -> None:
        if self.weight is not None:
            matrix[:, self.weight] += torch.bmm(self.d.mT, self.a).flatten(1)
        if self.bias is not None:
            matrix[:, self.bias] += self.d.sum(1)

    def along(self, direction: Tensor) -> Tensor:
        pushed = torch.zeros_like(self.d)
        if self.weight is not None:
            shape = (self.d.shape[2], self.a.shape[2])
            pushed = self.a @ direction[self.weight].view(shape).T
        if self.bias is not None:
            pushed = pushed + direction[self.bias]
        return (pushed * self.d).sum((1, 2))

    def against(self, directions: Tensor) -> Tensor:
        products = directions.new_zeros(len(directions), len(self.a))
        if self.weight is not None:
            formed = torch.bmm(self.d.mT, self.a).flatten(1)
            products = torch.addmm(products, directions[:, self.weight], formed.T)
        if self.bias is not None:
            products = torch.addmm(products, directions[:, self.bias], self.d.sum(1).T)
        return products

    def pairs(self, other: LinearFactors) -> Tensor:
        positions = self.a.shape[1] * other.a.shape[1]
        widths = self.a.shape[2], self.d.shape[2]
        if positions * sum(widths) > widths[0] * widths[1]:
            return self._formed() @ other._formed().T
        shape = (len(self.a), self.a.shape[1], len(other.a), other.a.shape[1])
        products = self.d.flatten(0, 1) @ other.d.flatten(0, 1).T
        if self.weight is not None:
            inputs = self.a.flatten(0, 1) @ other.a.flatten(0, 1).T
            products = products * (inputs + 1 if self.bias is not None else inputs)
        return products.view(shape).sum((1, 3)) if positions > 1 else products

    def _formed(self) -> Tensor:
        parts = []
        if self.weight is not None:
            parts.append(torch.bmm(self.d.mT, self.a).flatten(1))
        if self.bias is not None:
            parts.append(self.d.sum(1))
        return torch.cat(parts, 1)

    def scaled(self, weights: Tensor) -> LinearFactors:
        return replace(self, d=self.d * weights[:, None, None])

    def chosen(self, rows: Tensor) -> LinearFactors:
        return replace(self, a=self.a[rows], d=self.d[rows])

    def plus(self, others: Sequence[LinearFactors]) -> LinearFactors:
        all_ = (self, *others)
        return replace(
            self, a=torch.cat([f.a for f in all_], 1), d=torch.cat([f.d for f in all_], 1)
        )


@dataclass(frozen=True)
class EmbeddingFactors:
    """`nn.Embedding`: index (N, U) int64, d (N, U, width), and where the table lies."""

    index: Tensor
    d: Tensor
    weight: slice
    padding: int | None

    def masked(self) -> Tensor:
        """(N, U, width) output gradients, zero at padding."""
        if self.padding is None:
            return self.d
        return self.d * (self.index != self.padding)[..., None]

    def total(self, flat: Tensor) -> None:
        table = flat[self.weight].view(-1, self.d.shape[2])
        table.index_add_(0, self.index.flatten(), self.masked().flatten(0, 1))

    def rows(self, matrix: Tensor) -> None:
        d = self.masked()
        for row in range(len(d)):
            table = matrix[row, self.weight].view(-1, d.shape[2])
            table.index_add_(0, self.index[row], d[row])

    def along(self, direction: Tensor) -> Tensor:
        table = direction[self.weight].view(-1, self.d.shape[2])
        return (table[self.index] * self.masked()).sum((1, 2))

    def against(self, directions: Tensor) -> Tensor:
        tables = directions[:, self.weight].reshape(len(directions), -1, self.d.shape[2])
        d = self.masked()
        products = [
            torch.einsum("tuk,uk->t", tables[:, self.index[row]], d[row]) for row in range(len(d))
        ]
        return torch.stack(products, 1)

    def pairs(self, other: EmbeddingFactors) -> Tensor:
        shape = (*self.index.shape, *other.index.shape)
        products = self.masked().flatten(0, 1) @ other.masked().flatten(0, 1).T
        same = self.index.flatten()[:, None] == other.index.flatten()[None]
        return (products * same).view(shape).sum((1, 3))

    def scaled(self, weights: Tensor) -> EmbeddingFactors:
        return replace(self, d=self.d * weights[:, None, None])

    def chosen(self, rows: Tensor) -> EmbeddingFactors:
        return replace(self, index=self.index[rows], d=self.d[rows])

    def plus(self, others: Sequence[EmbeddingFactors]) -> EmbeddingFactors:
        all_ = (self, *others)
        index = torch.cat([f.index for f in all_], 1)
        return replace(self, index=index, d=torch.cat([f.d for f in all_], 1))


@dataclass(frozen=True)
class NormFactors:
    """`nn.LayerNorm`: gradients of scale and shift are as small as a row, so they are formed.

    Attributes:
        scale: (N, width) gradient of the weight.
        shift: (N, width) gradient of the bias.
    """

    scale: Tensor
    shift: Tensor
    weight: slice | None
    bias: slice | None

    def _parts(self) -> list[tuple[Tensor, slice]]:
        both = ((self.scale, self.weight), (self.shift, self.bias))
        return [(values, place) for values, place in both if place is not None]

    def total(self, flat: Tensor) -> None:
        for values, place in self._parts():
            flat[place] += values.sum(0)

    def rows(self, matrix: Tensor) -> None:
        for values, place in self._parts():
            matrix[:, place] += values

    def along(self, direction: Tensor) -> Tensor:
        return torch.stack([v @ direction[place] for v, place in self._parts()]).sum(0)

    def against(self, directions: Tensor) -> Tensor:
        return torch.stack([directions[:, place] @ v.T for v, place in self._parts()]).sum(0)

    def pairs(self, other: NormFactors) -> Tensor:
        both = zip(self._parts(), other._parts(), strict=True)
        return torch.stack([mine @ theirs.T for (mine, _), (theirs, _) in both]).sum(0)

    def scaled(self, weights: Tensor) -> NormFactors:
        column = weights[:, None]
        return replace(self, scale=self.scale * column, shift=self.shift * column)

    def chosen(self, rows: Tensor) -> NormFactors:
        return replace(self, scale=self.scale[rows], shift=self.shift[rows])

    def plus(self, others: Sequence[NormFactors]) -> NormFactors:
        scale = torch.stack([self.scale, *(f.scale for f in others)]).sum(0)
        return replace(
            self, scale=scale, shift=torch.stack([self.shift, *(f.shift for f in others)]).sum(0)
        )


@dataclass(frozen=True)
class Dense:
    """Any other parameters: (N, p) gradients, formed, and the (p,) places of their columns."""

    gradients: Tensor
    places: Tensor

    def total(self, flat: Tensor) -> None:
        flat[self.places] += self.gradients.sum(0)

    def rows(self, matrix: Tensor) -> None:
        matrix[:, self.places] += self.gradients

    def along(self, direction: Tensor) -> Tensor:
        return self.gradients @ direction[self.places]

    def against(self, directions: Tensor) -> Tensor:
        return directions[:, self.places] @ self.gradients.T

    def pairs(self, other: Dense) -> Tensor:
        return self.gradients @ other.gradients.T

    def scaled(self, weights: Tensor) -> Dense:
        return replace(self, gradients=self.gradients * weights[:, None])

    def chosen(self, rows: Tensor) -> Dense:
        return replace(self, gradients=self.gradients[rows])

    def plus(self, others: Sequence[Dense]) -> Dense:
        return replace(
            self, gradients=torch.stack([self.gradients, *(f.gradients for f in others)]).sum(0)
        )
