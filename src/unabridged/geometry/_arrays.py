"""Reading a matrix that a user hands in: numpy or torch, any real dtype, checked in one place."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["Array", "as_matrix", "as_vector", "like"]

Array = NDArray[Any] | torch.Tensor
"""A numpy array or a torch tensor of real numbers."""


def as_matrix(X: object, *, caller: str, name: str = "X", width: int | None = None) -> torch.Tensor:
    """`X` as a two-dimensional real torch tensor, without a copy where that is possible.

    Values are not looked at here (that would cost a pass); see `require_finite` in the callers.

    Args:
        X: (N, D) array, tensor or nested sequence of real numbers; integers become float64.
        caller: function name that opens the error message.
        name: argument name for the error message.
        width: the D that is required, if any.

    Raises:
        TypeError: if the values are not real numbers.
        ValueError: if the shape is not (N, D) with D at least 1, or D is not `width`.
    """
    tensor = _as_tensor(X, caller=caller, name=name)
    if tensor.ndim != 2 or tensor.shape[1] == 0:
        raise ValueError(
            f"{caller}: {name} has shape {tuple(tensor.shape)}; it must be (rows, columns) with at "
            f"least one column, so reshape a single vector with {name}.reshape(1, -1)."
        )
    if width is not None and tensor.shape[1] != width:
        raise ValueError(
            f"{caller}: {name} has {tensor.shape[1]} columns and {width} are expected; "
            "pass vectors of the model that was used before."
        )
    return tensor


def as_vector(x: object, *, caller: str, name: str, length: int) -> NDArray[np.float64]:
    """`x` as a finite float64 vector of the given length, always a fresh copy.

    Raises:
        TypeError: if the values are not real numbers.
        ValueError: if the shape is not (length,) or a value is not finite.
    """
    tensor = _as_tensor(x, caller=caller, name=name)
    if tuple(tensor.shape) != (length,):
        raise ValueError(
            f"{caller}: {name} has shape {tuple(tensor.shape)} and ({length},) is expected; "
            "pass one value a column."
        )
    vector = tensor.detach().to("cpu", torch.float64).numpy().copy()
    if not np.isfinite(vector).all():
        raise ValueError(
            f"{caller}: {name} holds NaN or infinity; it must be finite, so remove those values."
        )
    return vector


def like(result: torch.Tensor, source: object, dtype: torch.dtype) -> Array:
    """`result` in `dtype`, as a tensor where `source` is one, as a numpy array otherwise."""
    converted = result.to(dtype)
    return converted if isinstance(source, torch.Tensor) else converted.numpy()


def _as_tensor(X: object, *, caller: str, name: str) -> torch.Tensor:
    if isinstance(X, torch.Tensor):
        tensor = X.detach()
    else:
        array = np.asarray(X)
        if array.dtype.kind not in "fiub":
            raise TypeError(
                f"{caller}: {name} holds {array.dtype} values; real numbers are expected, "
                "so convert it to a floating-point array."
            )
        if array.dtype.kind != "f" or array.dtype.itemsize > 8 or not array.dtype.isnative:
            array = array.astype(np.float64)
        if not array.flags.writeable or any(stride < 0 for stride in array.strides):
            array = array.copy()
        tensor = torch.from_numpy(array)
    if tensor.is_complex():
        raise TypeError(
            f"{caller}: {name} holds complex values; real numbers are expected, "
            "so pass its real and imaginary parts as columns."
        )
    return tensor if tensor.is_floating_point() else tensor.to(torch.float64)
