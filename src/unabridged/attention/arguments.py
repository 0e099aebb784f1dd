"""What every attention checks of its arguments, in one place and in one tone."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["checked_scale", "key_weights_mask"]


def checked_scale(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    key_mask: Tensor | None,
    scale: float | None,
    caller: str,
) -> float:
    """The factor of the products, after the shapes have been found to fit.

    Args:
        query: (B, H, Nq, D).
        key: (B, H, Nk, D).
        value: (B, H, Nk, Dv).
        key_mask: (B, Nk) bool or None.
        scale: None for 1 / sqrt(D).
        caller: name that opens an error message.

    Raises:
        ValueError: if a shape does not fit the others.
        TypeError: if dtypes differ or the mask is not bool.

    >>> q = torch.zeros(2, 3, 5, 4)
    >>> checked_scale(q, q, q, key_mask=None, scale=None, caller="example")
    0.5
    """
    shapes = tuple(query.shape), tuple(key.shape), tuple(value.shape)
    fits = (
        query.ndim == key.ndim == value.ndim == 4
        and query.shape[:2] == key.shape[:2]
        and key.shape[:3] == value.shape[:3]
        and query.shape[3] == key.shape[3] > 0
        and key.shape[2] > 0
    )
    if not fits:
        raise ValueError(
            f"{caller}: query, key and value have shapes {shapes[0]}, {shapes[1]}, {shapes[2]}; "
            "they must be (B, H, Nq, D), (B, H, Nk, D) and (B, H, Nk, Dv) with at least one key, "
            "so split the heads first."
        )
    if not query.is_floating_point() or not query.dtype == key.dtype == value.dtype:
        raise TypeError(
            f"{caller}: query, key and value have dtypes {query.dtype}, {key.dtype}, "
            f"{value.dtype}; all must be one floating dtype, so convert them first."
        )
    if key_mask is not None:
        _check_mask(key_mask, (key.shape[0], key.shape[2]), caller)
    if scale is not None and not math.isfinite(scale):
        raise ValueError(f"{caller}: scale is {scale}; it must be finite, so pass 1 / sqrt(D).")
    return query.shape[3] ** -0.5 if scale is None else float(scale)


def key_weights_mask(key_mask: Tensor | None) -> Tensor | None:
    """(B, 1, Nk, 1) True at masked keys; None where every key is real, so that work is saved."""
    if key_mask is None or bool(key_mask.all()):
        return None
    return ~key_mask[:, None, :, None]


def _check_mask(key_mask: Tensor, shape: tuple[int, int], caller: str) -> None:
    if key_mask.dtype != torch.bool:
        raise TypeError(
            f"{caller}: key_mask has dtype {key_mask.dtype}; it must be bool with True at real "
            "keys, so pass mask.bool()."
        )
    if tuple(key_mask.shape) != shape:
        raise ValueError(
            f"{caller}: key_mask has shape {tuple(key_mask.shape)}; it must be (B, Nk) = {shape}, "
            "so pass one flag a key."
        )
