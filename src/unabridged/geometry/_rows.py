"""Reading arguments as rows of numbers; one sentence for each way in which they can be wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["as_query", "as_rows", "check_columns", "check_count", "is_finite"]

Floats = NDArray[np.floating[Any]]


def as_rows(caller: str, X: object, dimension: int | None = None) -> Floats:
    """`X` as a two-dimensional float array: float32 and float64 stay, all else becomes float64.

    float16 and bfloat16 become float32, which holds them exactly.

    Raises:
        TypeError: `X` is not made of real numbers.
        ValueError: `X` is not two-dimensional, or has another number of columns than `dimension`.
    """
    if isinstance(X, torch.Tensor):
        X = X.detach().cpu()
        array = (X.float() if X.dtype == torch.bfloat16 else X).numpy()
    else:
        array = np.asarray(X)
    if array.dtype.kind not in "fiub":
        raise TypeError(
            f"{caller}: got dtype {array.dtype}; wanted real numbers, so convert the array first."
        )
    check_columns(caller, array.shape, dimension)
    if array.dtype == np.float16:
        return array.astype(np.float32)
    if array.dtype in (np.float32, np.float64):
        return array
    return array.astype(np.float64)


def check_columns(caller: str, shape: tuple[int, ...], dimension: int | None) -> None:
    """Raise ValueError unless `shape` is (rows, dimension), any number of columns for None."""
    if len(shape) != 2:
        raise ValueError(
            f"{caller}: got shape {tuple(shape)}; wanted two dimensions (rows, columns), "
            "so reshape a single vector x to x[None]."
        )
    if dimension is not None and shape[1] != dimension:
        raise ValueError(
            f"{caller}: got {shape[1]} columns; wanted {dimension}, "
            "so pass vectors of the width that this object was made for."
        )


def as_query(caller: str, query: object, dimension: int) -> NDArray[np.float64]:
    """`query` as one finite float64 vector of `dimension` entries."""
    rows = query if isinstance(query, torch.Tensor) else np.asarray(query)
    if rows.ndim != 1:
        raise ValueError(
            f"{caller}: got a query of shape {tuple(rows.shape)}; wanted one vector of {dimension} "
            "entries, so pass the queries one at a time."
        )
    vector: NDArray[np.float64] = as_rows(caller, rows[None, :], dimension)[0].astype(np.float64)
    if not is_finite(vector):
        raise ValueError(f"{caller}: got NaN or infinity in the query; wanted finite numbers.")
    return vector


def check_count(caller: str, name: str, value: object, low: int, high: float = float("inf")) -> int:
    """`value` as an integer in [low, high].

    Raises:
        TypeError: `value` is no integer.
        ValueError: `value` lies outside the range.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(
            f"{caller}: got {name}={value!r}; wanted an integer, so pass a whole number."
        )
    if not low <= value <= high:
        wanted = f"at least {low}" if high == float("inf") else f"between {low} and {high}"
        raise ValueError(f"{caller}: got {name}={value}; wanted {wanted}, so choose one there.")
    return int(value)


def is_finite(array: Floats) -> bool:
    """Whether all entries are finite; one pass without a temporary in the usual case."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(array.sum())) or bool(np.isfinite(array).all())
