"""A matrix known by its products: dense, sparse, a linear operator, or blocks of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from unabridged.geometry._rows import as_rows, is_finite

__all__ = ["MatrixProducts", "RowBlocks", "matrix_products"]

_BLOCK_BYTES = 3 << 19


@dataclass(frozen=True)
class RowBlocks:
    """A matrix as a function that starts a new pass over its blocks of rows.

    Attributes:
        shape: (rows, columns) of the whole.
        blocks: called once a pass; yields arrays (some rows, columns) from first to last.
    """

    shape: tuple[int, int]
    blocks: Callable[[], Iterable[NDArray[Any]]]


@dataclass(frozen=True)
class MatrixProducts:
    """The three products that a randomized factorisation needs, on float tensors.

    Attributes:
        shape: (rows, columns).
        dtype: of the products.
        times: V (columns, l) to M V (rows, l).
        transposed: U (rows, l) to M^T U (columns, l).
        gram: V (columns, l) to M^T M V (columns, l), in one pass over M.
    """

    shape: tuple[int, int]
    dtype: torch.dtype
    times: Callable[[torch.Tensor], torch.Tensor]
    transposed: Callable[[torch.Tensor], torch.Tensor]
    gram: Callable[[torch.Tensor], torch.Tensor]

    def turned(self) -> MatrixProducts:
        """The products of the transposed matrix."""
        return MatrixProducts(
            (self.shape[1], self.shape[0]),
            self.dtype,
            self.transposed,
            self.times,
            lambda U: self.times(self.transposed(U)),
        )


def matrix_products(caller: str, M: object) -> MatrixProducts:
    """`M` as products: array or tensor, scipy sparse matrix, LinearOperator, or RowBlocks.

    Sparse matrices and operators are recognised by `tocsr` and by `matmat` with `rmatmat`.

    Raises:
        TypeError: None of these, or not real numbers.
        ValueError: Not two-dimensional, empty, or (dense and sparse) NaN or infinity.
    """
    if isinstance(M, RowBlocks):
        products = _of_blocks(caller, M)
    elif hasattr(M, "tocsr"):
        products = _of_sparse(caller, M.tocsr())
    elif hasattr(M, "matmat") and hasattr(M, "rmatmat"):
        products = _of_operator(M)
    else:
        products = _of_dense(caller, M)
    if min(products.shape) < 1:
        raise ValueError(
            f"{caller}: got a matrix of shape {products.shape}; wanted at least one row and one "
            "column, so factorise when there are rows."
        )
    return products


def _of_dense(caller: str, M: object) -> MatrixProducts:
    array = as_rows(caller, M)
    _refuse_infinite(caller, array)
    dense = torch.from_numpy(np.ascontiguousarray(array))
    size = max(1, _BLOCK_BYTES // max(1, dense.shape[1] * dense.element_size()))

    def gram(V: torch.Tensor) -> torch.Tensor:
        # The long side of both products runs along rows of M: half the time of M^T on the left.
        out = dense.new_zeros(V.shape[1], dense.shape[1])
        for start in range(0, len(dense), size):
            block = dense[start : start + size]
            out.addmm_((block @ V).T, block)
        return out.T

    return MatrixProducts(
        (dense.shape[0], dense.shape[1]),
        dense.dtype,
        lambda V: dense @ V,
        lambda U: (U.T @ dense).T,
        gram,
    )


def _of_sparse(caller: str, M: Any) -> MatrixProducts:  # noqa: ANN401 (scipy is not imported here)
    if M.dtype not in (np.float32, np.float64):
        M = M.astype(np.float64)
    _refuse_infinite(caller, M.data)
    turned = M.T.tocsr()

    def times(V: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(np.asarray(M @ V.numpy()))

    def transposed(U: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(np.asarray(turned @ U.numpy()))

    dtype = torch.float32 if M.dtype == np.float32 else torch.float64
    return MatrixProducts(tuple(M.shape), dtype, times, transposed, lambda V: transposed(times(V)))


def _of_operator(M: Any) -> MatrixProducts:  # noqa: ANN401 (any object with these two methods)
    dtype = torch.float32 if M.dtype == np.float32 else torch.float64

    def times(V: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(np.asarray(M.matmat(V.numpy()))).to(dtype)

    def transposed(U: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(np.asarray(M.rmatmat(U.numpy()))).to(dtype)

    return MatrixProducts(tuple(M.shape), dtype, times, transposed, lambda V: transposed(times(V)))


def _of_blocks(caller: str, M: RowBlocks) -> MatrixProducts:
    rows, columns = M.shape

    def each() -> Iterable[tuple[slice, torch.Tensor]]:
        start = 0
        for block in M.blocks():
            array = as_rows(caller, block, columns).astype(np.float64, copy=False)
            _refuse_infinite(caller, array)
            yield slice(start, start + len(array)), torch.from_numpy(array)
            start += len(array)
        if start != rows:
            raise ValueError(
                f"{caller}: got {start} rows in a pass over the blocks; wanted {rows}, "
                "so state the shape that the blocks add up to."
            )

    def times(V: torch.Tensor) -> torch.Tensor:
        return torch.cat([V.new_empty(0, V.shape[1]), *(block @ V for _, block in each())])

    def transposed(U: torch.Tensor) -> torch.Tensor:
        out = U.new_zeros(columns, U.shape[1])
        for where, block in each():
            out.addmm_(block[: len(U[where])].T, U[where])
        return out

    def gram(V: torch.Tensor) -> torch.Tensor:
        out = torch.zeros_like(V)
        for _, block in each():
            out.addmm_(block.T, block @ V)
        return out

    return MatrixProducts(M.shape, torch.float64, times, transposed, gram)


def _refuse_infinite(caller: str, array: NDArray[Any]) -> None:
    if not is_finite(array):
        raise ValueError(
            f"{caller}: got NaN or infinity in the matrix; wanted finite numbers, "
            "so drop or repair those rows first."
        )
