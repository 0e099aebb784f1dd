"""The covariance of a Wasserstein barycenter, with gradients from the equation it solves.

At the barycenter S the averaged displacement F(S) = sum w_i K(S -> S_i) is zero. By the implicit
function theorem dS = -F_S^-1 dF, and -F_S is symmetric positive definite (it is half the Hessian of
the mean W2^2), so one conjugate-gradient solve gives the gradient in all covariances and weights.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from unabridged.geometry._displacement_map import displacement_map
from unabridged.geometry._roots import symmetric

__all__ = ["BARYCENTER_TOLERANCE", "barycenter_covariance"]

BARYCENTER_TOLERANCE = 1e-13
ITERATIONS = 500


def barycenter_covariance(covariances: Tensor, weights: Tensor, *, tolerance: float) -> Tensor:
    """(d, d) from (N, d, d) and weights (N,) that sum to 1."""
    with torch.no_grad():
        fixed = _fixed_point(covariances, weights, tolerance)
    result: Tensor = _Implicit.apply(fixed, covariances, weights)  # type: ignore[no-untyped-call]
    return result


def _mean_displacement(center: Tensor, covariances: Tensor, weights: Tensor) -> Tensor:
    """F(S) = sum w_i K(S -> S_i), (d, d)."""
    k = displacement_map(center.expand(covariances.shape), covariances)
    return (weights[:, None, None] * k).sum(0)


def _fixed_point(covariances: Tensor, weights: Tensor, tolerance: float) -> Tensor:
    """Iterate S <- (I + F) S (I + F) until the last step is lost in rounding."""
    center = (weights[:, None, None] * covariances).sum(0)
    size = float(center.trace())
    eye = torch.eye(center.shape[-1], dtype=center.dtype, device=center.device)
    for _ in range(ITERATIONS):
        f = _mean_displacement(center, covariances, weights)
        moved = float(torch.linalg.matrix_norm(f @ center))
        step = eye + f
        center = symmetric(step @ center @ step)
        if moved <= tolerance * size:
            return center
    raise ArithmeticError(
        f"barycenter: after {ITERATIONS} steps the last one still moved by {moved / size:.1g} of "
        "the whole; covariances of full rank are wanted, so add a little to their diagonals."
    )


class _Implicit(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, center: Tensor, covariances: Tensor, weights: Tensor) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(center, covariances, weights)
        return center.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[None, Tensor, Tensor]:  # noqa: ANN401
        center, covariances, weights = (
            tensor.detach().requires_grad_() for tensor in ctx.saved_tensors
        )
        with torch.enable_grad():
            f = _mean_displacement(center, covariances, weights)
        solved = _conjugate_gradient(f, center, symmetric(outer[0]))
        to_covariances, to_weights = torch.autograd.grad(f, (covariances, weights), solved)
        return None, to_covariances, to_weights


def _conjugate_gradient(f: Tensor, center: Tensor, right: Tensor) -> Tensor:
    """Solve -F_S Z = right."""
    z = torch.zeros_like(right)
    residual = right.clone()
    direction = right.clone()
    squared = float(residual.square().sum())
    enough = 1e-26 * squared
    for _ in range(10 * right.numel()):
        if squared <= enough:
            break
        (pulled,) = torch.autograd.grad(f, center, direction, retain_graph=True)
        length = squared / -float((direction * pulled).sum())
        z = z + length * direction
        residual = residual + length * pulled
        previous, squared = squared, float(residual.square().sum())
        direction = residual + (squared / previous) * direction
    return z
