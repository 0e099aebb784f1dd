"""What may go into a `Gaussian`, and the sentence that says why something may not."""

from __future__ import annotations

import torch
from torch import Tensor

from unabridged.geometry._covariances import broadcast
from unabridged.geometry.psd import rank_tolerance

__all__ = ["check_factor", "check_matrix", "check_mean", "check_variances", "read"]

ASYMMETRY_ALLOWED = 1e3
"""Asymmetry, in units of the rank tolerance, that is rounding and not a wrong matrix."""


def read(caller: str, **arguments: Tensor) -> tuple[Tensor, ...]:
    """The arguments as finite floating tensors of one dtype and device, in the given order.

    Raises:
        TypeError: if one is not floating point, or dtypes or devices differ.
        ValueError: if one holds NaN or infinity.
    """
    tensors = {name: torch.as_tensor(value) for name, value in arguments.items()}
    first_name, first = next(iter(tensors.items()))
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise TypeError(
                f"{caller}: {name} holds {str(tensor.dtype)[6:]} values; floating point is wanted, "
                "so convert it with .double() or .float()."
            )
        if tensor.dtype != first.dtype or tensor.device != first.device:
            raise TypeError(
                f"{caller}: {first_name} is {str(first.dtype)[6:]} on {first.device} and {name} is "
                f"{str(tensor.dtype)[6:]} on {tensor.device}; both must agree, so convert one of "
                "them with .to()."
            )
        if not bool(torch.isfinite(tensor).all()):
            raise ValueError(
                f"{caller}: {name} holds NaN or infinity; it must be finite, "
                "so remove those values."
            )
    return tuple(tensors.values())


def check_mean(mean: Tensor) -> None:
    """Raise ValueError unless the mean is (..., d) with d at least 1."""
    if mean.ndim < 1 or mean.shape[-1] < 1:
        raise ValueError(
            f"Gaussian: mean has shape {tuple(mean.shape)}; it must be (..., d) with d at least 1, "
            "so pass a vector."
        )


def check_variances(variances: Tensor, mean: Tensor) -> None:
    """Raise ValueError unless the variances are (..., d) and not negative."""
    _check_shape("variances", variances, mean, (mean.shape[-1],), "(..., d)")
    if variances.numel() and bool((variances < 0).any()):
        raise ValueError(
            f"Gaussian: variances has the value {float(variances.min()):.3g}; "
            "a variance cannot be negative, so pass squared standard deviations."
        )


def check_factor(factor: Tensor, mean: Tensor) -> None:
    """Raise ValueError unless the factor is (..., d, r)."""
    rank = factor.shape[-1] if factor.ndim else 0
    _check_shape("factor", factor, mean, (mean.shape[-1], rank), "(..., d, r)")


def check_matrix(covariance: Tensor, mean: Tensor) -> Tensor:
    """The covariance, exactly symmetric.

    Raises:
        ValueError: if it is not (..., d, d), not symmetric, or indefinite beyond rounding.
    """
    d = mean.shape[-1]
    _check_shape("covariance", covariance, mean, (d, d), "(..., d, d)")
    tolerance = rank_tolerance(d, covariance.dtype)
    with torch.no_grad():
        matrix = covariance.double()
        largest = matrix.abs().amax((-2, -1), keepdim=True)
        gap = (matrix - matrix.mT).abs()
        if bool((gap > ASYMMETRY_ALLOWED * tolerance * largest).any()):
            raise ValueError(
                f"Gaussian: covariance differs from its transpose by {float(gap.max()):.3g}; "
                "it must be symmetric, so pass (S + S.mT) / 2 if the difference is only rounding."
            )
        _check_semidefinite((matrix + matrix.mT) / 2, tolerance)
    return (covariance + covariance.mT) / 2


def _check_semidefinite(matrix: Tensor, tolerance: float) -> None:
    """Cholesky for nearly all, eigenvalues only for those that it refuses."""
    refused = torch.linalg.cholesky_ex(matrix).info != 0
    if not bool(refused.any()):
        return
    values = torch.linalg.eigvalsh(matrix[refused] if matrix.ndim > 2 else matrix[None])
    least, largest = values[:, 0], values[:, -1].abs()
    bad = least < -tolerance * torch.maximum(largest, -least)
    if bool(bad.any()):
        worst = int(torch.where(bad, least, torch.inf).argmin())
        raise ValueError(
            f"Gaussian: covariance has the eigenvalue {float(least[worst]):.3g} beside the largest "
            f"{float(values[worst, -1]):.3g}; it must be positive semidefinite, so add "
            f"{-float(least[worst]):.3g} to its diagonal or pass a covariance."
        )


def _check_shape(
    name: str, tensor: Tensor, mean: Tensor, event: tuple[int, ...], wanted: str
) -> None:
    """Raise ValueError unless the last axes are `event` and the others fit those of the mean."""
    fits = tuple(tensor.shape[-len(event) :]) == event
    if fits:
        try:
            broadcast(tensor.shape[: tensor.ndim - len(event)], mean.shape[:-1])
        except RuntimeError:
            fits = False
    if not fits:
        raise ValueError(
            f"Gaussian: {name} has shape {tuple(tensor.shape)} and mean {tuple(mean.shape)}; "
            f"{name} must be {wanted} with d = {mean.shape[-1]} and batch shapes that broadcast, "
            "so pass matching shapes."
        )
