"""The cosine integral, which torch does not have."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["cosine_integral"]

_SERIES_UP_TO = 6.0
"""Below, the alternating series loses at most three digits; above, the fraction converges fast."""
_EULER = 0.5772156649015329
_SERIES_TERMS, _FRACTION_TERMS = 30, 80


def cosine_integral(x: Tensor) -> Tensor:
    """Ci(x) = γ + ln x + ∫_0^x (cos t - 1)/t dt for x > 0, elementwise, in float64.

    Abramowitz and Stegun (1964), 5.2.16 for small x; for large x, Ci(x) = -Re E_1(ix) by the
    continued fraction 5.1.22 in its even form.

    >>> cosine_integral(torch.tensor([1.0, 10.0]))
    tensor([ 0.3374, -0.0455], dtype=torch.float64)
    """
    x = x.double()
    small = x <= _SERIES_UP_TO
    return torch.where(
        small,
        _series(torch.where(small, x, 1.0)),
        _fraction(torch.where(small, _SERIES_UP_TO, x)),
    )


def _series(x: Tensor) -> Tensor:
    term, total = torch.ones_like(x), torch.zeros_like(x)
    for k in range(1, _SERIES_TERMS):
        term = -term * x * x / ((2 * k - 1) * (2 * k))
        total = total + term / (2 * k)
    return _EULER + x.log() + total


def _fraction(x: Tensor) -> Tensor:
    z = torch.complex(torch.zeros_like(x), x)
    tail = torch.zeros_like(z)
    for k in range(_FRACTION_TERMS, 0, -1):
        tail = k * k / (z + 2 * k + 1 - tail)
    return -(torch.exp(-z) / (z + 1 - tail)).real
