"""Sinusoidal positions: the table, its exact laws, and how its inner products decay.

Row m holds sin mθ_t and cos mθ_t side by side, θ_t = b^{-2t/d}, t = 0 … d/2-1 (Vaswani et al. 2017,
section 3.5). Two rows meet in <p_m, p_n> = Σ_t cos((m-n)θ_t), for any θ: the distance and nothing
else.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from unabridged.positions._cosine_integral import cosine_integral

__all__ = ["decay_profile", "exact_profile", "shift_operator", "sinusoidal", "smooth_range"]


def sinusoidal(
    length: int, width: int, base: float = 10000.0, *, dtype: torch.dtype = torch.float32
) -> Tensor:
    """The table (length, width), computed in float64 and then cast.

    Every row has the squared norm width/2, and p_{m+s} = shift_operator(s) p_m for every m. So the
    digits of a position, in any base and any number of levels, are rotations that follow each
    other: a hierarchical decomposition that is exact, where a learned table's is a guess.

    Args:
        length: rows.
        width: columns, even.
        base: b, above 1; the longest wave is nearly 2πb positions long.
        dtype: of the result.

    Raises:
        ValueError: an odd width, a base of at most 1, or no rows.

    >>> sinusoidal(2, 4)
    tensor([[0.0000, 1.0000, 0.0000, 1.0000],
            [0.8415, 0.5403, 0.0100, 0.9999]])
    """
    if length < 1:
        raise ValueError(f"sinusoidal: length is {length}, wanted at least 1.")
    places = torch.arange(length, dtype=torch.float64)
    angles = places[:, None] * _frequencies(width, base)  # (length, width / 2)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1).to(dtype)


def shift_operator(steps: int, width: int, base: float = 10000.0) -> Tensor:
    """The orthogonal R (width, width), float64, with p_{m+steps} = R p_m for every m.

    R is block diagonal, a rotation by steps·θ_t in every plane; R_a R_b = R_{a+b}.

    Args:
        steps: how far, either way.
        width: columns of the table, even.
        base: of the table.

    Raises:
        ValueError: an odd width, or a base of at most 1.

    >>> shift_operator(0, 2)
    tensor([[1., 0.],
            [-0., 1.]], dtype=torch.float64)
    """
    angles = steps * _frequencies(width, base)
    sin, cos = angles.sin(), angles.cos()
    planes = torch.stack([cos, sin, -sin, cos], dim=-1).view(-1, 2, 2)
    operator: Tensor = torch.block_diag(*planes)  # type: ignore[no-untyped-call]
    return operator


def exact_profile(distances: Tensor, width: int, base: float = 10000.0) -> Tensor:
    """(2/d) Σ_t cos(xθ_t): the cosine of two rows x positions apart, float64.

    Args:
        distances: x, any shape, any real numbers.
        width: d, even.
        base: of the table.

    Raises:
        ValueError: an odd width, or a base of at most 1.

    >>> exact_profile(torch.tensor([0.0, 10.0]), 768)
    tensor([1.0000, 0.6800], dtype=torch.float64)
    """
    angles = distances.double()[..., None] * _frequencies(width, base)
    return angles.cos().mean(-1)


def decay_profile(distances: Tensor, width: int | None = None, base: float = 10000.0) -> Tensor:
    """The same in closed form, float64.

    For infinitely many dimensions (width None), x > 0,

        g(x) = ∫_0^1 cos(x b^{-s}) ds = (Ci(x) - Ci(x/b)) / ln b,

    which falls like 1 - (ln x + γ)/ln b for 1 << x << b and first crosses zero at x ≈ 0.6165 b.
    For d dimensions two terms of Euler and Maclaurin are added,

        (cos x - cos(x/b))/d  -  ln b (x sin x - (x/b) sin(x/b)) / 3d².

    The sum follows that while neighbouring frequencies keep in step: to 1e-5 up to 1.4 times
    `smooth_range(d, b)`, to 2e-4 up to π times. There they are half a turn apart and the sum is
    aliased: from then on it is noise of the order d^{-1/2} around g, to which the two terms add
    nothing, and the smooth decay that the integral shows is not there.

    Args:
        distances: x, at least 0, any shape.
        width: d; None for the limit.
        base: of the table.

    Raises:
        ValueError: a negative distance, an odd width, or a base of at most 1.

    Reference: Su (2021), kexue.fm/archives/8231, which has the integral without its closed form.

    >>> x = torch.tensor([0.0, 1.0, 30.0])
    >>> (decay_profile(x, 768) - exact_profile(x, 768)).abs().max() < 2e-6
    tensor(True)
    """
    x = distances.double()
    if bool((x < 0).any()):
        raise ValueError(f"decay_profile: a distance is {x.min().item()}, wanted at least 0.")
    if base <= 1:
        raise ValueError(f"base: is {base}, wanted above 1; the usual is 10000.")
    log = math.log(base)
    safe = torch.where(x > 0, x, 1.0)
    limit = (cosine_integral(safe) - cosine_integral(safe / base)) / log
    limit = torch.where(x > 0, limit, 1.0)
    if width is None:
        return limit
    _frequencies(width, base)
    slow = x / base
    first = (x.cos() - slow.cos()) / width
    second = log * (x * x.sin() - slow * slow.sin()) / (3 * width**2)
    return limit + first - second


def smooth_range(width: int, base: float = 10000.0) -> float:
    """d/(2 ln b): the distance at which neighbouring frequencies are one radian out of step.

    Args:
        width: d, even.
        base: of the table.

    Raises:
        ValueError: an odd width, or a base of at most 1.

    >>> round(smooth_range(768), 1)
    41.7
    """
    _frequencies(width, base)
    return width / (2 * math.log(base))


def _frequencies(width: int, base: float) -> Tensor:
    if width < 2 or width % 2:
        raise ValueError(
            f"width: is {width}, wanted an even number: sine and cosine stand in pairs."
        )
    if base <= 1:
        raise ValueError(f"base: is {base}, wanted above 1; the usual is 10000.")
    return base ** (-2 * torch.arange(width // 2, dtype=torch.float64) / width)
