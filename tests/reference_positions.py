"""Position tables row by row, as the formulas are written."""

from __future__ import annotations

import math

import numpy as np


def post_hierarchical(p, length, alpha):
    """q_{(i-1)n+j} = α u_i + (1-α) u_j with u = (p - α p_1)/(1-α), as post 7947 has it."""
    n = len(p)
    u = [(row - alpha * p[0]) / (1 - alpha) for row in p]
    return np.stack([alpha * u[m // n] + (1 - alpha) * u[m % n] for m in range(length)])


def hierarchical(p, length, *, alpha, base, first, levels):
    """Digit by digit, from the last table row on."""
    beta = alpha / (1 - alpha)
    rows = list(p)
    for m in range(len(p), length):
        number, row = m - first, 0.0
        for level in range(levels):
            number, digit = divmod(number, base)
            row = row + (p[first + digit] if level == 0 else 0)
            row = row + (beta**level * (p[first + digit] - p[first]) if level else 0)
        rows.append(row)
    return np.stack(rows)


def sinusoid(m, width, base):
    row = []
    for t in range(width // 2):
        row += [math.sin(m * base ** (-2 * t / width)), math.cos(m * base ** (-2 * t / width))]
    return row
