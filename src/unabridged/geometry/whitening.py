"""Whitening of embeddings: settings, fitted state, application.

    x̃ = (x - β μ) U λ^(-γ/2) [:, :k]        Σ about β μ = U diag(λ) Uᵀ, λ descending

β = γ = 1 is the transform of BERT-whitening; β = γ = 0 only rotates and leaves every cosine as it
is; in between, γ decides how far directions of large spread are damped. Everything is computed
from `Moments`, in float64; applying it is one matrix product in the caller's dtype.

References: Su, Cao, Liu & Ou (2021), Whitening sentence representations (arXiv 2103.15316), whose
W is our `kernel`; Huang et al. (2021), WhiteningBERT (arXiv 2104.01767); Kessy, Lewin & Strimmer
(2018), Optimal whitening and decorrelation, for ZCA. We depart in the queries' own mean, in
shrinkage, and in that directions without spread get weight 0 where the recipe divides by zero.

Axis legend: N rows, D columns of the input, K columns of the output.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict, dataclass, replace
from os import PathLike

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from unabridged.geometry._arrays import Array, as_matrix, as_vector, like
from unabridged.geometry.moments import Moments
from unabridged.geometry.psd import Spectrum, eigh
from unabridged.geometry.recipe import Basis, Recipe, held_out_factor
from unabridged.geometry.shrinkage import shrinkage_intensity

__all__ = ["Basis", "Recipe", "Whitening", "held_out_factor", "spectrum_about"]

SCHEMA = "unabridged.whitening/1"
BLOCK_ROWS = 4096  # rows centred at a time while transforming


@dataclass(frozen=True, slots=True, eq=False)
class Whitening:
    """A fitted whitening: explicit state that can be saved, applied, inverted and inspected.

    Attributes:
        recipe: the settings it was made with.
        count: total weight of the rows it was fitted on.
        mean: (D,) float64, what is subtracted from documents (β times their mean).
        query_mean: (D,) float64, what is subtracted from queries; equal to `mean` where the
            queries' own mean was not given.
        kernel: (D, K) float64, what centred rows are multiplied with.
        inverse: (K, D) float64, back from the whitened space.
        values: (D,) float64, eigenvalues of the covariance before shrinkage, descending.
        rank: how many of them stand above the floor.
        intensity: the shrinkage ρ that was applied.

    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((1000, 3)) @ np.array([[2.0, 1, 0], [0, 1, 1], [0, 0, 3]]) + 5
    >>> whitening = Whitening.fit(X)
    >>> bool(np.allclose(np.cov(whitening.transform(X).T, ddof=0), np.eye(3)))
    True
    >>> bool(np.allclose(whitening.inverse_transform(whitening.transform(X)), X))
    True
    """

    recipe: Recipe
    count: float
    mean: NDArray[np.float64]
    query_mean: NDArray[np.float64]
    kernel: NDArray[np.float64]
    inverse: NDArray[np.float64]
    values: NDArray[np.float64]
    rank: int
    intensity: float

    @classmethod
    def fit(cls, X: object, recipe: Recipe | None = None, *, queries: object = None) -> Whitening:
        """Fit on the rows of `X`, read in blocks.

        Args:
            X: (N, D) array or tensor, at least two rows.
            recipe: settings; the default is full whitening.
            queries: (M, D) questions or other texts unlike the documents, for a mean of their own.

        Raises:
            ValueError: as `from_moments` and `Moments.of`.
        """
        query_mean = None if queries is None else Moments.of(queries).mean
        return cls.from_moments(Moments.of(X), recipe, query_mean=query_mean)

    @classmethod
    def from_moments(
        cls, moments: Moments, recipe: Recipe | None = None, *, query_mean: object = None
    ) -> Whitening:
        """Fit from moments, without the data.

        Args:
            moments: of at least two rows that are not all equal.
            recipe: settings; the default is full whitening.
            query_mean: (D,) mean of the queries, where they are not drawn like the documents.

        Raises:
            ValueError: if there are fewer than two rows, no spread at all, or `recipe.dimension`
                exceeds what the data spans.
        """
        recipe = recipe or Recipe()
        if moments.count < 2:
            raise ValueError(
                f"Whitening: the moments are of {moments.count:g} sample; at least 2 samples are "
                "needed, and several times the dimension for a good result, so add more rows."
            )
        return cls.from_spectrum(moments, spectrum_about(moments, recipe.beta), recipe, query_mean)

    @classmethod
    def from_spectrum(
        cls, moments: Moments, spectrum: Spectrum, recipe: Recipe, query_mean: object = None
    ) -> Whitening:
        """As `from_moments`, with `spectrum_about(moments, recipe.beta)` at hand.

        For whoever tries many recipes on the same moments: the eigendecomposition is the cost.
        """
        intensity = shrinkage_intensity(moments, recipe.shrinkage)
        kept = _kept(recipe, spectrum, intensity)
        values = (1 - intensity) * spectrum.values + intensity * spectrum.values.mean()
        forward, backward = _weights(values, recipe.gamma, spectrum, intensity)
        vectors = spectrum.vectors[:, :kept]
        back_rotation = vectors.T if recipe.basis == "zca" else np.eye(kept)
        _warn_if_overfitted(moments, recipe, spectrum.rank)
        mean = recipe.beta * moments.mean
        if query_mean is None:
            own = mean
        else:
            length = moments.dimension
            vector = as_vector(query_mean, caller="Whitening", name="query_mean", length=length)
            own = recipe.beta * vector
        return cls(
            recipe,
            moments.count,
            mean,
            own,
            (vectors * forward[:kept]) @ back_rotation,
            back_rotation.T @ (vectors * backward[:kept]).T,
            spectrum.values,
            spectrum.rank,
            intensity,
        )

    @classmethod
    def identity(cls, dimension: int) -> Whitening:
        """The whitening that changes nothing, for where whitening would do harm."""
        eye = np.eye(dimension)
        zero = np.zeros(dimension)
        recipe = Recipe(beta=0.0, gamma=0.0, basis="zca")
        return cls(recipe, 0.0, zero, zero, eye, eye, np.ones(dimension), dimension, 0.0)

    @property
    def width(self) -> int:
        """D, columns of the input."""
        return int(self.kernel.shape[0])

    @property
    def dimension(self) -> int:
        """K, columns of the output."""
        return int(self.kernel.shape[1])

    @property
    def held_out_factor(self) -> float:
        """How much longer unseen rows come out than fitted ones, squared; see the function."""
        return held_out_factor(self.count, self.rank)

    def transform(self, X: object) -> Array:
        """(N, K) whitened documents, in the caller's dtype and kind of array.

        Args:
            X: (N, D) array or tensor; a tensor gives a detached tensor.

        Raises:
            ValueError: if the width is not D.
            TypeError: if the values are not real numbers.
        """
        return self._apply(X, self.mean, self.kernel)

    def transform_query(self, X: object) -> Array:
        """(N, K) whitened queries, centred by the queries' own mean; otherwise as `transform`."""
        return self._apply(X, self.query_mean, self.kernel)

    def inverse_transform(self, Y: object) -> Array:
        """(N, D) the documents whose whitening is nearest to `Y`; exact where none was dropped."""
        rows = as_matrix(Y, caller="Whitening.inverse_transform", name="Y", width=self.dimension)
        back = _affine(rows, np.zeros(self.dimension), self.inverse, self.mean)
        return like(back, Y, rows.dtype)

    def with_query_mean(self, query_mean: object) -> Whitening:
        """The same whitening with another mean for queries, before β is applied."""
        vector = as_vector(
            query_mean, caller="Whitening.with_query_mean", name="query_mean", length=self.width
        )
        return replace(self, query_mean=self.recipe.beta * vector)

    def save(self, path: str | PathLike[str]) -> None:
        """Write state and settings to one safetensors file, bit for bit; no pickle."""
        about = {
            "schema": SCHEMA,
            "recipe": asdict(self.recipe),
            "count": self.count,
            "rank": self.rank,
            "intensity": self.intensity,
        }
        tensors = {name: np.ascontiguousarray(getattr(self, name)) for name in _TENSORS}
        save_file(tensors, path, metadata={"unabridged": json.dumps(about)})

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Whitening:
        """Read what `save` wrote.

        Raises:
            ValueError: if the file is not one of ours or has another schema version.
            OSError: if it cannot be read.
        """
        try:
            with safe_open(path, framework="numpy") as file:
                about = json.loads((file.metadata() or {}).get("unabridged", "{}"))
                if about.get("schema") != SCHEMA:
                    raise ValueError(
                        f"Whitening.load: {path} has the schema {about.get('schema')!r} and "
                        f"{SCHEMA!r} is expected; fit it anew or use the version that wrote it."
                    )
                tensors = {name: file.get_tensor(name) for name in _TENSORS}
        except SafetensorError as error:
            raise ValueError(
                f"Whitening.load: {path} is not a complete safetensors file ({error}); fit it anew."
            ) from error
        return cls(
            recipe=Recipe(**about["recipe"]),
            count=about["count"],
            rank=about["rank"],
            intensity=about["intensity"],
            **tensors,
        )

    def _apply(self, X: object, mean: NDArray[np.float64], kernel: NDArray[np.float64]) -> Array:
        rows = as_matrix(X, caller="Whitening.transform", width=self.width)
        return like(_affine(rows, mean, kernel, np.zeros(self.dimension)), X, rows.dtype)


_TENSORS = ("mean", "query_mean", "kernel", "inverse", "values")


def spectrum_about(moments: Moments, beta: float) -> Spectrum:
    """Eigendecomposition of the covariance (denominator N) about β μ instead of μ."""
    offset = (1 - beta) * moments.mean
    return eigh(moments.covariance() + np.outer(offset, offset), caller="Whitening")


def _kept(recipe: Recipe, spectrum: Spectrum, intensity: float) -> int:
    """How many directions are kept, refusing those in which there is nothing to divide by."""
    d = len(spectrum.values)
    if spectrum.rank == 0 and recipe.gamma > 0:
        raise ValueError(
            "Whitening: all rows are equal, so there is no spread to even out; "
            "pass rows that differ."
        )
    available = d if recipe.gamma == 0 or intensity > 0 else spectrum.rank
    if recipe.dimension is not None and recipe.dimension > available:
        raise ValueError(
            f"Whitening: dimension is {recipe.dimension} and the data spans only {available} of "
            f"{d} directions; ask for at most {available}, add rows, or choose a shrinkage."
        )
    return recipe.dimension or d


def _weights(
    values: NDArray[np.float64], gamma: float, spectrum: Spectrum, intensity: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """λ^(-γ/2) and its inverse, 0 where a direction has no spread and γ would divide by it."""
    live = np.ones(len(values), dtype=bool)
    if gamma > 0 and intensity == 0:
        live[spectrum.rank :] = False
    forward, backward = np.zeros((2, len(values)))
    forward[live] = values[live] ** (-gamma / 2)
    backward[live] = values[live] ** (gamma / 2)
    return forward, backward


def _warn_if_overfitted(moments: Moments, recipe: Recipe, rank: int) -> None:
    if recipe.gamma > 0 and recipe.shrinkage == "none" and moments.count < 4 * rank:
        warnings.warn(
            f"Whitening: {moments.count:g} samples for {rank} directions; unseen rows come out "
            f"{held_out_factor(moments.count, rank):.3g} times longer (squared) than fitted ones. "
            f"Pass at least {4 * rank} samples, keep fewer dimensions, or choose a shrinkage.",
            stacklevel=5,
        )


def _affine(
    rows: torch.Tensor,
    centre: NDArray[np.float64],
    matrix: NDArray[np.float64],
    offset: NDArray[np.float64],
) -> torch.Tensor:
    """(rows - centre) @ matrix + offset in the working dtype of `rows`, block by block.

    The centre is split into what the working dtype can hold, subtracted before the product, and the
    rest, added behind it; so a large mean costs no digits and float32 needs no float64 product.
    """
    half = rows.dtype in (torch.float16, torch.bfloat16)
    dtype = torch.float32 if half else rows.dtype
    near = torch.from_numpy(centre).to(rows.device, dtype)
    rest = centre - near.to("cpu", torch.float64).numpy()
    bias = torch.from_numpy(offset - rest @ matrix).to(rows.device, dtype)
    product = torch.from_numpy(matrix).to(rows.device, dtype)
    result = torch.empty(len(rows), matrix.shape[1], dtype=dtype, device=rows.device)
    for start in range(0, len(rows), BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        part = torch.addmm(bias, rows[block].to(dtype) - near, product, out=result[block])
        if not bool(torch.isfinite(part.sum())) and not bool(torch.isfinite(part).all()):
            raise ValueError(
                "Whitening: rows hold NaN or infinity, or overflow their dtype; all values must be "
                "finite, so drop or repair those rows."
            )
    return result
