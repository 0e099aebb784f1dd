"""Factorisations in a single pass: Nystrom, and generalised Nystrom for streamed rows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from unabridged.geometry._rows import as_rows, check_count, is_finite
from unabridged.geometry.matrix_products import matrix_products
from unabridged.geometry.random_projection import own_stream
from unabridged.geometry.randomized_svd import TruncatedSVD, signed

__all__ = ["RowSketch", "TruncatedEigen", "nystrom"]


@dataclass(frozen=True, eq=False)
class TruncatedEigen:
    """A ~ vectors diag(values) vectors^T.

    Attributes:
        values: descending, not negative (k,).
        vectors: orthonormal columns (d, k).
    """

    values: NDArray[np.float64]
    vectors: NDArray[np.float64]

    def matrix(self) -> NDArray[np.float64]:
        """The approximation as a dense array (d, d)."""
        return np.asarray((self.vectors * self.values) @ self.vectors.T)


def nystrom(A: object, rank: int, *, sketch: int | None = None, seed: int = 0) -> TruncatedEigen:
    """The largest eigenvalues of a positive semidefinite A from one product A Omega.

    Y = A Omega, A ~ Y (Omega^T Y)^+ Y^T, made stable by a shift that is taken off again
    (Tropp, Yurtsever, Udell and Cevher 2017, algorithm 3). A itself is read once.

    Args:
        A: (d, d) symmetric positive semidefinite: array, tensor, sparse matrix or LinearOperator.
        rank: k, at most d.
        sketch: columns of Omega, k to d; None means 4 k + 1 or d.
        seed: integer.

    Raises:
        TypeError: A is no matrix of real numbers, or a count is no integer.
        ValueError: Not square, not symmetric, not positive semidefinite, NaN or infinity.

    >>> nystrom(np.diag([4.0, 1.0, 0.0]), 2).values.round(6).tolist()
    [4.0, 1.0]
    """
    products = matrix_products("nystrom", A)
    d = products.shape[0]
    if products.shape != (d, d):
        raise ValueError(
            f"nystrom: got a matrix of shape {products.shape}; wanted a square one, "
            "so use randomized_svd for a rectangular matrix."
        )
    check_count("nystrom", "rank", rank, 1, d)
    size = min(4 * rank + 1, d) if sketch is None else sketch
    check_count("nystrom", "sketch", size, rank, d)
    gaussian = torch.from_numpy(own_stream(seed).standard_normal((d, size)))
    test = torch.linalg.qr(gaussian)[0]
    image = products.times(test.to(products.dtype)).double()
    shift = _shift(image, products.dtype)
    image = image + shift * test
    core = test.T @ image
    _refuse_indefinite(core, products.dtype)
    upper, failed = torch.linalg.cholesky_ex((core + core.T) / 2, upper=True)
    if int(failed):
        raise ValueError(_INDEFINITE)
    factor = torch.linalg.solve_triangular(upper, image, upper=True, left=False)
    U, singular, _ = torch.linalg.svd(factor, full_matrices=False)
    values = (singular**2 - shift).clamp(min=0)[:rank].numpy()
    vectors = U[:, :rank].numpy()
    flip = np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(rank)])
    return TruncatedEigen(values, vectors * flip)


_INDEFINITE = (
    "nystrom: got a matrix that is not positive semidefinite; wanted one without negative "
    "eigenvalues, so use randomized_svd, or repair the matrix first."
)


def _shift(image: torch.Tensor, dtype: torch.dtype) -> float:
    eps = torch.finfo(dtype).eps
    return max(
        math.sqrt(len(image)) * eps * float(torch.linalg.matrix_norm(image, 2)),
        torch.finfo(torch.float64).tiny,
    )


def _refuse_indefinite(core: torch.Tensor, dtype: torch.dtype) -> None:
    """Omega^T A Omega shows asymmetry and negative directions without another product."""
    scale = float(core.abs().max())
    tolerance = 100 * math.sqrt(len(core)) * torch.finfo(dtype).eps * scale
    if float((core - core.T).abs().max()) > tolerance:
        raise ValueError(
            "nystrom: got a matrix that is not symmetric; wanted A = A^T, "
            "so pass (A + A.T) / 2 or use randomized_svd."
        )
    if float(torch.linalg.eigvalsh((core + core.T) / 2)[0]) < -tolerance:
        raise ValueError(_INDEFINITE)


class RowSketch:
    """A truncated SVD of rows that pass by once (generalised Nystrom, Nakatsukasa 2020).

    For every block of rows A_b it keeps A_b Omega and adds up Psi_b^T A_b and Psi_b^T A_b Omega;
    then A ~ (A Omega) (Psi^T A Omega)^+ (Psi^T A). The rows themselves are not kept: memory is
    rows * sketch + 1.5 sketch * columns numbers of float64, sketch = 4 rank + 1 unless said.

    Args:
        columns: d, the width of every row.
        rank: k, at most d.
        sketch: columns of Omega, k to d; None means 4 k + 1 or d.
        seed: integer. The same rows in the same order give the same result, whatever the blocks.

    >>> A = np.outer(np.arange(1.0, 9.0), [1.0, 2.0, 2.0])
    >>> sketch = RowSketch(3, 1)
    >>> sketch.update(A[:5])
    >>> sketch.update(A[5:])
    >>> bool(np.allclose(sketch.svd().matrix(), A))
    True
    """

    def __init__(
        self, columns: int, rank: int, *, sketch: int | None = None, seed: int = 0
    ) -> None:
        self.columns = check_count("RowSketch", "columns", columns, 1)
        self.rank = check_count("RowSketch", "rank", rank, 1, columns)
        size = min(4 * rank + 1, columns) if sketch is None else sketch
        size = check_count("RowSketch", "sketch", size, rank, columns)
        check_count("RowSketch", "seed", seed, 0)
        rng = own_stream(seed)
        self._omega = np.linalg.qr(rng.standard_normal((columns, size)))[0]
        self._left_stream = rng
        left = size + size // 2 + 1
        self._images: list[NDArray[np.float64]] = []
        self._core = np.zeros((left, size))
        self._row_sums = np.zeros((left, columns))

    def update(self, rows: object) -> None:
        """Take in the next rows (n, columns).

        Raises:
            TypeError: Not real numbers.
            ValueError: Wrong shape, NaN or infinity.
        """
        block = as_rows("RowSketch.update", rows, self.columns).astype(np.float64, copy=False)
        if not is_finite(block):
            raise ValueError(
                "RowSketch.update: got NaN or infinity; wanted finite rows, "
                "so drop or repair them first."
            )
        image = block @ self._omega
        psi = self._left_stream.standard_normal((len(block), len(self._core)))
        self._images.append(image)
        self._core += psi.T @ image
        self._row_sums += psi.T @ block

    def svd(self) -> TruncatedSVD:
        """The factorisation of the rows so far.

        Raises:
            ValueError: Fewer rows than the rank.
        """
        image = np.concatenate([np.empty((0, self._omega.shape[1])), *self._images])
        if len(image) < self.rank:
            raise ValueError(
                f"RowSketch.svd: got {len(image)} rows; wanted at least rank={self.rank}, "
                "so update with more rows first."
            )
        Q, R = np.linalg.qr(image)
        # R (Psi^T Q R)^+ by least squares: the pseudoinverse is never formed.
        solved = np.linalg.lstsq(self._core, self._row_sums, rcond=1e-12)[0]
        U, values, Vh = np.linalg.svd(R @ solved, full_matrices=False)
        return signed(Q @ U[:, : self.rank], values[: self.rank], Vh[: self.rank])
