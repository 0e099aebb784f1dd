"""Matrix products to about twice float64, from ordinary float64 products of short slices.

A number of 53 bits is cut into slices so short that a product of two slices, summed over the
inner dimension, still fits 53 bits: each partial product is then exact, whatever the order of its
sums (Ozaki, Ogita, Oishi & Rump 2012, "Error-free transformations of matrix multiplication").
The geometry of Gaussians needs it in one place: to know what a factorization has got wrong.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["congruence", "product", "two_sum"]

MANTISSA_BITS = 53
SLICES = 3


def two_sum(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """The rounded sum of two tensors and the exact error of that rounding (Knuth's two-sum).

    >>> two_sum(torch.tensor(1.0, dtype=torch.float64), torch.tensor(1e-20, dtype=torch.float64))
    (tensor(1., dtype=torch.float64), tensor(1.0000e-20, dtype=torch.float64))
    """
    head = a + b
    virtual = head - a
    return head, (a - (head - virtual)) + (b - virtual)


def _slices(matrix: Tensor, *, dim: int, bits: int) -> list[Tensor]:
    """Cut into `SLICES` summands of at most `bits` bits below the largest entry along `dim`."""
    largest = matrix.abs().amax(dim=dim, keepdim=True)
    mantissa, _ = torch.frexp(largest)
    unit = torch.where(mantissa == 0, 1.0, largest / mantissa)  # a power of two
    slices = []
    for _ in range(SLICES):
        unit = unit * 2.0**-bits
        top = torch.round(matrix / unit) * unit
        slices.append(top)
        matrix = matrix - top
    return slices


def product(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """`a @ b` as an unevaluated sum head + tail, exact to 2**-66 of the row and column scales.

    Args:
        a: (..., m, k) float64.
        b: (..., k, n) float64.

    Returns:
        head and tail, both (..., m, n).

    >>> a = torch.tensor([[1.0, 1e-9]], dtype=torch.float64)
    >>> product(a, a.mT)[1].item()  # 1e-18, which 1 + 1e-18 rounds away
    1...e-18
    """
    inner = a.shape[-1]
    if 0 in (inner, a.shape[-2], b.shape[-1]):
        zero = a @ b
        return zero, zero.clone()
    bits = (MANTISSA_BITS - math.ceil(math.log2(inner + 1))) // 2
    left, right = _slices(a, dim=-1, bits=bits), _slices(b, dim=-2, bits=bits)
    head, tail = two_sum(left[0] @ right[1], left[1] @ right[0])
    head, error = two_sum(left[0] @ right[0], head)
    rest = left[1] @ right[1] + left[0] @ right[2] + left[2] @ right[0]
    return two_sum(head, rest + (tail + error))


def congruence(a: Tensor, s: Tensor, b: Tensor) -> Tensor:
    """`a @ s @ b.mT`, rounded once: as accurate as if it were computed in twice float64.

    Args:
        a: (..., m, d) float64.
        s: (..., d, d) float64.
        b: (..., n, d) float64.
    """
    head, tail = product(a, s)
    top, rest = product(head, b.mT)
    return top + (rest + tail @ b.mT)
