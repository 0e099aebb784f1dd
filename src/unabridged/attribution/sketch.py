"""Random projections of gradients that keep inner products on average, layer by layer.

The gradient of a linear layer is G = Σ_u d_u ã_uᵀ, ã the input with a one for the bias. Its sketch
is P_o G P_iᵀ, computed from the factors as Σ_u (P_o d_u)(P_i ã_u)ᵀ, so that no gradient is formed.
Norms and other parameters are projected as vectors. Every sketch consists of B independent blocks:
⟨G, H⟩ is estimated by the mean of B products, and their spread says how well.

Source: Choe et al. (2024), What is your data worth to GPT? (LoGra), for the two-sided projection;
Johnson and Lindenstrauss (1984). We depart in Gaussian factors drawn anew for every step, and in
independent blocks for an error that is measured, not assumed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from unabridged.attribution.factors import (
    Dense,
    EmbeddingFactors,
    Factors,
    LinearFactors,
    NormFactors,
)
from unabridged.attribution.gradients import RowGradients
from unabridged.geometry.random_projection import RandomProjection

__all__ = ["Sketch"]


@dataclass(frozen=True)
class Sketch:
    """Independent projections for every layer of one step.

    Attributes:
        blocks: B, independent estimates of every product.
        side: numbers kept of each side of a linear layer; side² of vectors.
        seed: what the draws depend on; equal seeds give equal sketches.
    """

    blocks: int
    side: int
    seed: tuple[int, ...]

    def of_factors(self, gradients: RowGradients) -> Tensor:
        """(B, N, K) sketches of the gradients of N rows.

        Raises:
            ValueError: parameters that several layers share; their products do not go by layers.
        """
        if not gradients.disjoint:
            raise ValueError(
                "Sketch: several layers share a parameter, so products of gradients do not go "
                "layer by layer; use path_kernel, which is exact."
            )
        parts = enumerate(part for _, part in gradients.parts)
        return torch.cat([self._part(number, part) for number, part in parts], 2)

    def of_rows(self, matrix: Tensor, like: RowGradients) -> Tensor:
        """(B, T, K) sketches of T vectors (T, P), laid out as those of gradients `like`."""
        parts = enumerate(part for _, part in like.parts)
        return torch.cat([self._rows(number, matrix, part) for number, part in parts], 2)

    def _part(self, number: int, part: Factors) -> Tensor:
        if isinstance(part, LinearFactors):
            inputs = _with_bias(part)
            left = self._draw(number, 0, inputs.shape[2], inputs)
            right = self._draw(number, 1, part.d.shape[2], inputs)
            return self._two_sided(inputs @ left, part.d @ right)
        if isinstance(part, EmbeddingFactors):
            rows = (part.weight.stop - part.weight.start) // part.d.shape[2]
            left = self._draw(number, 0, rows, part.d)[part.index]
            masked = part.masked()
            return self._two_sided(left, masked @ self._draw(number, 1, part.d.shape[2], masked))
        vectors = _vectors(part)
        return self._vector(number, vectors)

    def _rows(self, number: int, matrix: Tensor, part: Factors) -> Tensor:
        if isinstance(part, LinearFactors):
            matrices = _as_matrices(matrix, part)
            left = self._draw(number, 0, matrices.shape[2], matrix)
            right = self._draw(number, 1, part.d.shape[2], matrix)
            return self._both(matrices, left, right)
        if isinstance(part, EmbeddingFactors):
            tables = matrix[:, part.weight].reshape(len(matrix), -1, part.d.shape[2])
            left = self._draw(number, 0, tables.shape[1], matrix)
            right = self._draw(number, 1, part.d.shape[2], matrix)
            return self._both(tables.mT, left, right)
        return self._vector(number, matrix[:, _places(part)])

    def _draw(self, number: int, side: int, width: int, like: Tensor) -> Tensor:
        """(width, B · side) entries N(0, 1/side)."""
        state = np.random.SeedSequence([*self.seed, number, side]).generate_state(1)
        count = self.blocks * self.side
        projection = RandomProjection("gaussian", width, count, seed=int(state[0]))
        scaled = projection.matrix.T * math.sqrt(self.blocks)
        return torch.from_numpy(scaled).to(like.dtype)

    def _two_sided(self, left: Tensor, right: Tensor) -> Tensor:
        """(B, N, side²) from (N, U, B · side) of both sides."""
        shape = (*left.shape[:2], self.blocks, self.side)
        both = torch.einsum("nubi,nubo->bnoi", left.view(shape), right.view(shape))
        return both.flatten(2)

    def _both(self, matrices: Tensor, left: Tensor, right: Tensor) -> Tensor:
        """(B, T, side²) from (T, out, in)."""
        left = left.view(-1, self.blocks, self.side)
        right = right.view(-1, self.blocks, self.side)
        half = torch.einsum("toi,ibk->bkto", matrices, left)
        return torch.einsum("bkto,obl->btlk", half, right).flatten(2)

    def _vector(self, number: int, vectors: Tensor) -> Tensor:
        """(B, N, side²) from (N, p), left whole where that is shorter."""
        if vectors.shape[1] <= self.side**2:
            return vectors.expand(self.blocks, *vectors.shape)
        wide = Sketch(self.blocks, self.side**2, self.seed)
        drawn = wide._draw(number, 0, vectors.shape[1], vectors)
        return (vectors @ drawn).view(len(vectors), self.blocks, -1).transpose(0, 1)


def _with_bias(part: LinearFactors) -> Tensor:
    """(N, U, in) inputs, a one for the bias as the last column."""
    ones = part.a.new_ones(*part.a.shape[:2], 1)
    pieces = [part.a] if part.weight is not None else []
    return torch.cat([*pieces, *([ones] if part.bias is not None else [])], 2)


def _as_matrices(matrix: Tensor, part: LinearFactors) -> Tensor:
    """(T, out, in), the bias as the last column."""
    shape = (len(matrix), part.d.shape[2], -1)
    places = [place for place in (part.weight, part.bias) if place is not None]
    return torch.cat([matrix[:, place].reshape(shape) for place in places], 2)


def _places(part: Factors) -> Tensor:
    if isinstance(part, Dense):
        return part.places
    spans: Sequence[slice | None] = (
        (part.weight, part.bias) if isinstance(part, NormFactors) else ()
    )
    return torch.cat([torch.arange(s.start, s.stop) for s in spans if s is not None])


def _vectors(part: Factors) -> Tensor:
    """(N, p) gradients of a part that is small enough to be formed, in the order of its places."""
    if isinstance(part, Dense):
        return part.gradients
    if isinstance(part, NormFactors):
        both = ((part.scale, part.weight), (part.shift, part.bias))
        return torch.cat([values for values, place in both if place is not None], 1)
    raise TypeError(f"Sketch: no projection for {type(part).__name__}.")
