"""Symmetric positive semidefinite matrices: one eigendecomposition, one floor, one rank rule.

Every room of the ground floor that needs a square root, an inverse or a rank asks here, so that
jitter and tolerance are decided once: an eigenvalue counts as zero when it is at most
d · eps · λ_max, where eps belongs to the dtype in which the matrix was handed in. Zero directions
get weight zero in an inverse, never 1/0. Computation is in float64, results come in float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = [
    "Spectrum",
    "eigh",
    "geometric_mean",
    "inverse_sqrt",
    "logdet",
    "rank_tolerance",
    "sqrt",
    "symmetric",
]

Matrix = NDArray[np.float64]

ASYMMETRY_ALLOWED = 1e3
"""Asymmetry, in units of the rank tolerance, that is rounding and not a wrong matrix."""


def rank_tolerance(d: int, dtype: np.dtype[Any] | torch.dtype | type[Any] = np.float64) -> float:
    """The share of λ_max at or below which an eigenvalue counts as zero: d · eps of the dtype.

    Args:
        d: side of the matrix.
        dtype: numpy or torch floating dtype in which the matrix was computed.

    >>> rank_tolerance(384) == 384 * 2.0**-52
    True
    >>> rank_tolerance(384, torch.float32) == rank_tolerance(384, np.float32)
    True
    """
    if isinstance(dtype, torch.dtype):
        return d * float(torch.finfo(dtype).eps)
    return d * float(np.finfo(dtype).eps)


@dataclass(frozen=True, slots=True, eq=False)
class Spectrum:
    """Eigenvalues and eigenvectors of a symmetric positive semidefinite matrix.

    Attributes:
        values: (d,) float64, descending; those at or below the floor are exactly zero.
        vectors: (d, d) float64, column i belongs to `values[i]`; the component of largest
            magnitude of every column is positive, so that files are reproducible.
        rank: how many values stand above the floor.

    >>> spectrum = eigh(np.diag([1.0, 9.0, 0.0]))
    >>> spectrum.values.tolist(), spectrum.rank
    ([9.0, 1.0, 0.0], 2)
    >>> spectrum.power(-0.5).round(3).tolist()
    [[1.0, 0.0, 0.0], [0.0, 0.333, 0.0], [0.0, 0.0, 0.0]]
    """

    values: NDArray[np.float64]
    vectors: Matrix
    rank: int

    def weights(self, exponent: float) -> NDArray[np.float64]:
        """(d,) values ** exponent, with 0 where the value is zero, also for exponent ≤ 0."""
        powers = np.zeros_like(self.values)
        powers[: self.rank] = self.values[: self.rank] ** exponent
        return powers

    def power(self, exponent: float) -> Matrix:
        """(d, d) the matrix power; a pseudo-power on the range where the exponent is ≤ 0."""
        powered: Matrix = (self.vectors * self.weights(exponent)) @ self.vectors.T
        return powered

    def logdet(self) -> float:
        """Natural logarithm of the determinant, -inf if the matrix is singular."""
        return float(np.log(self.values).sum()) if self.rank == len(self.values) else -np.inf

    def condition(self) -> float:
        """λ_max / λ_min, inf if the matrix is singular."""
        return float(self.values[0] / self.values[-1]) if self.values[-1] > 0 else np.inf


def symmetric(S: object, *, name: str = "S", caller: str = "psd") -> Matrix:
    """`S` as a finite, exactly symmetric float64 matrix.

    Args:
        S: (d, d) array or tensor; differences from its transpose within rounding are averaged out.
        name: what the matrix is called in the error message.
        caller: function name that opens the error message.

    Raises:
        ValueError: if `S` is not square, not finite or not symmetric.
        TypeError: if it does not hold real numbers.
    """
    matrix, tolerance = _read(S, name=name, caller=caller)
    largest = np.abs(matrix).max()
    gap = np.abs(matrix - matrix.T).max()
    if gap > ASYMMETRY_ALLOWED * tolerance * largest:
        raise ValueError(
            f"{caller}: {name} differs from its transpose by {gap:.3g}; it must be symmetric, so "
            f"pass ({name} + {name}.T) / 2 if the difference is only rounding."
        )
    averaged: Matrix = (matrix + matrix.T) / 2
    return averaged


def eigh(S: object, *, name: str = "S", caller: str = "eigh") -> Spectrum:
    """Eigendecomposition of a symmetric positive semidefinite matrix, floor applied.

    Args:
        S: (d, d) array or tensor, symmetric within rounding, any real dtype.
        name: what the matrix is called in the error message.
        caller: function name that opens the error message.

    Raises:
        ValueError: if `S` is not square, not finite, not symmetric, or has an eigenvalue below
            minus the floor, that is, is indefinite beyond rounding.
        TypeError: if it does not hold real numbers.

    Reference: Golub & Van Loan (2013), Matrix Computations, 8.1 (perturbation of eigenvalues),
    from where the floor d · eps · λ_max.
    """
    tolerance = _read(S, name=name, caller=caller)[1]
    values, vectors = np.linalg.eigh(symmetric(S, name=name, caller=caller))
    values, vectors = values[::-1], vectors[:, ::-1]
    floor = tolerance * max(values[0], -values[-1], 0.0)
    if values[-1] < -floor:
        raise ValueError(
            f"{caller}: {name} has the eigenvalue {values[-1]:.3g} beside the largest "
            f"{values[0]:.3g}; it must be positive semidefinite, so pass a covariance, or add "
            f"{-values[-1]:.3g} to its diagonal."
        )
    rank = int((values > floor).sum())
    pivots = np.abs(vectors).argmax(axis=0)
    signs = np.where(vectors[pivots, np.arange(len(values))] < 0, -1.0, 1.0)
    kept = np.where(np.arange(len(values)) < rank, values, 0.0)
    return Spectrum(kept, np.ascontiguousarray(vectors * signs), rank)


def sqrt(S: object) -> Matrix:
    """(d, d) the symmetric positive semidefinite square root of `S`.

    >>> sqrt([[4.0, 0.0], [0.0, 9.0]]).tolist()
    [[2.0, 0.0], [0.0, 3.0]]
    """
    return eigh(S, caller="sqrt").power(0.5)


def inverse_sqrt(S: object) -> Matrix:
    """(d, d) the symmetric inverse square root; on the range of `S` only, if `S` is singular."""
    return eigh(S, caller="inverse_sqrt").power(-0.5)


def logdet(S: object) -> float:
    """Natural logarithm of the determinant of `S`; -inf if it is singular.

    >>> round(logdet(np.diag([2.0, 8.0])), 12) == round(float(np.log(16)), 12)
    True
    """
    return eigh(S, caller="logdet").logdet()


def geometric_mean(A: object, B: object) -> Matrix:
    """(d, d) the matrix geometric mean A # B = A^½ (A^-½ B A^-½)^½ A^½.

    Symmetric in its arguments; the unique positive solution of X A⁻¹ X = B; equal to the root of
    A B where they commute. One of the two may be singular.

    Raises:
        ValueError: if shapes differ or both matrices are singular, where the formula has no value.

    >>> geometric_mean(np.diag([1.0, 4.0]), np.diag([9.0, 1.0])).round(12).tolist()
    [[3.0, 0.0], [0.0, 2.0]]

    Reference: Bhatia (2007), Positive Definite Matrices, chapter 4.
    """
    first = eigh(A, name="A", caller="geometric_mean")
    second = eigh(B, name="B", caller="geometric_mean")
    d = len(first.values)
    if d != len(second.values):
        raise ValueError(
            f"geometric_mean: A is {d} x {d} and B is {len(second.values)} x "
            f"{len(second.values)}; both must act on the same space, so project one of them first."
        )
    # The better conditioned of the two is the one that is inverted.
    outer, inner = sorted((first, second), key=Spectrum.condition)
    if outer.rank < d:
        raise ValueError(
            f"geometric_mean: A has rank {first.rank} and B has rank {second.rank} of {d}; one "
            "must be positive definite, so restrict both to the range of one of them."
        )
    root, inverse = outer.power(0.5), outer.power(-0.5)
    middle = inverse @ inner.power(1.0) @ inverse
    mean = root @ _clipped_sqrt((middle + middle.T) / 2) @ root
    averaged: Matrix = (mean + mean.T) / 2
    return averaged


def _clipped_sqrt(S: Matrix) -> Matrix:
    """Square root of a product that is semidefinite by construction; negatives are rounding."""
    values, vectors = np.linalg.eigh(S)
    root: Matrix = (vectors * np.sqrt(np.clip(values, 0.0, None))) @ vectors.T
    return root


def _read(S: object, *, name: str, caller: str) -> tuple[Matrix, float]:
    """`S` in float64 and the rank tolerance of the dtype in which it came."""
    array = S.detach().to("cpu") if isinstance(S, torch.Tensor) else np.asarray(S)
    if isinstance(array, torch.Tensor):
        array = (array.double() if array.dtype == torch.bfloat16 else array).numpy()
    if array.dtype.kind not in "fiub":
        raise TypeError(
            f"{caller}: {name} holds {array.dtype} values; real numbers are expected, "
            "so convert it to a floating-point array."
        )
    if array.ndim != 2 or array.shape[0] != array.shape[1] or array.shape[0] == 0:
        raise ValueError(
            f"{caller}: {name} has shape {array.shape}; it must be square with at least one row, "
            "so pass one covariance matrix."
        )
    if not np.isfinite(array).all():
        raise ValueError(
            f"{caller}: {name} holds NaN or infinity; it must be finite, so remove those values."
        )
    eps_dtype = array.dtype if array.dtype.kind == "f" else np.dtype(np.float64)
    return array.astype(np.float64), rank_tolerance(len(array), eps_dtype)
