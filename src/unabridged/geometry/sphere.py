"""One coordinate of a uniform point of a sphere: the law behind the intervals of sign codes."""

from __future__ import annotations

import math

import numpy as np

__all__ = ["coordinate_quantile", "coordinate_tail"]

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(96)


def coordinate_tail(t: float, dimension: int) -> float:
    """P(x_1 >= t) for x uniform on the unit sphere of R^dimension, dimension >= 2, 0 <= t <= 1.

        P(x_1 >= t) = integral over [asin t, pi/2] of cos(a)^(d-2) da / B(1/2, (d-1)/2)

    The same law as Student's: sqrt(d - 1) x_1 / sqrt(1 - x_1^2) has d - 1 degrees of freedom.

    >>> round(coordinate_tail(0.0, 7), 12)
    0.5
    >>> round(coordinate_tail(0.3, 3), 12)
    0.35
    """
    low = math.asin(t)
    # Beyond a dozen standard deviations the integrand adds nothing in double precision.
    high = min(math.pi / 2, low + 12 / math.sqrt(dimension))
    angles = low + (high - low) * (_NODES + 1) / 2
    area = float(_WEIGHTS @ np.cos(angles) ** (dimension - 2)) * (high - low) / 2
    log_beta = math.lgamma(0.5) + math.lgamma((dimension - 1) / 2) - math.lgamma(dimension / 2)
    return area * math.exp(-log_beta)


def coordinate_quantile(tail: float, dimension: int) -> float:
    """The t with P(x_1 >= t) = tail, for x uniform on the unit sphere of R^dimension.

    On a sphere of dimension 1 (two points) every tail below one half has t = 1.

    Args:
        tail: above 0, at most one half.
        dimension: number of coordinates, at least 1.

    >>> round(coordinate_quantile(0.35, 3), 12)
    0.3
    >>> coordinate_quantile(0.01, 1)
    1.0
    """
    if dimension < 2:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if coordinate_tail(middle, dimension) > tail:
            low = middle
        else:
            high = middle
    return high
