"""Values computed one way, gradients another.

The accurate values come from eigendecompositions, whose own derivatives divide by gaps between
eigenvalues and are NaN at the identity. Their gradients have closed forms that start with the
difference of the covariances, so they vanish where the distance does. These forms are ordinary
differentiable operations, hence second derivatives work too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["Gradients", "pseudo_inverse", "safe_sqrt", "with_gradient"]

Gradients = Callable[..., tuple[Tensor, ...]]


class _Value(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: Gradients, *inputs: Tensor) -> Tensor:  # noqa: ANN401
        ctx.gradients = gradients
        ctx.save_for_backward(*inputs)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        (weight,) = outer  # (B,)
        gradients = ctx.gradients(*ctx.saved_tensors)
        scaled = (weight.reshape(-1, *[1] * (g.ndim - 1)) * g for g in gradients)
        return (None, None, *scaled)


def with_gradient(value: Tensor, gradients: Gradients, *inputs: Tensor) -> Tensor:
    """The values (B,), with `gradients(*inputs)`, one (B, ...) for every input, as derivatives."""
    result: Tensor = _Value.apply(value, gradients, *inputs)  # type: ignore[no-untyped-call]
    return result


def pseudo_inverse(covariance: Tensor) -> Tensor:
    """Differentiable inverse on the support of a covariance."""
    inverse: Tensor = torch.linalg.pinv(covariance, hermitian=True)
    return inverse


def safe_sqrt(squared: Tensor) -> Tensor:
    """Square root that takes the subgradient 0 at 0, where a distance has its cone."""
    positive = squared > 0
    return torch.where(positive, torch.where(positive, squared, 1.0).sqrt(), 0.0)
