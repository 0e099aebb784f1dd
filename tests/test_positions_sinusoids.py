"""Laws of sinusoidal positions."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.special import sici

import reference_positions as reference
from unabridged.positions import (
    decay_profile,
    exact_profile,
    shift_operator,
    sinusoidal,
    smooth_range,
)
from unabridged.positions._cosine_integral import cosine_integral

F64 = torch.float64
TIGHT = {"rtol": 0, "atol": 1e-12}


@pytest.mark.parametrize("base", [10000.0, 97.0])
def test_sinusoids_are_what_is_written(base):
    expected = [reference.sinusoid(m, 22, base) for m in range(13)]
    torch.testing.assert_close(
        sinusoidal(13, 22, base, dtype=F64), torch.tensor(expected, dtype=F64)
    )


def test_the_gram_of_sinusoids_depends_on_the_difference_only():
    p = sinusoidal(53, 38, dtype=F64)
    gram = p @ p.T
    for k in range(53):
        torch.testing.assert_close(gram.diagonal(k), gram[0, k].expand(53 - k), **TIGHT)
    profile = exact_profile(torch.arange(53), 38)
    torch.testing.assert_close(gram[0], 19 * profile, **TIGHT)


def test_the_shift_operator_is_orthogonal_and_shifts_every_row():
    p, R = sinusoidal(53, 38, dtype=F64), shift_operator(7, 38)
    torch.testing.assert_close(R @ R.T, torch.eye(38, dtype=F64), **TIGHT)
    torch.testing.assert_close(p[7:], p[:-7] @ R.T, **TIGHT)


def test_shifts_compose():
    composed = shift_operator(7, 38) @ shift_operator(-11, 38)
    torch.testing.assert_close(composed, shift_operator(-4, 38), **TIGHT)


def test_digits_of_sinusoidal_positions_compose_exactly():
    """Position 5·7·4 + 5·6 + 3, from row 3 and one rotation a digit."""
    p = sinusoidal(200, 38, dtype=F64)
    code = shift_operator(35 * 4, 38) @ shift_operator(5 * 6, 38) @ p[3]
    torch.testing.assert_close(code, p[173], **TIGHT)


def test_a_diagonal_form_adds_exactly_the_sums_of_positions():
    """p_m' H p_n = Σ (h_s + h_c)/2 cos((m-n)θ) + (h_c - h_s)/2 cos((m+n)θ)."""
    p, width = sinusoidal(29, 38, dtype=F64), 38
    h = torch.rand(width, dtype=F64, generator=torch.Generator().manual_seed(3))
    theta = 10000.0 ** (-2 * torch.arange(19, dtype=F64) / width)
    m, n = 11, 23
    of_difference = ((h[::2] + h[1::2]) / 2 * ((m - n) * theta).cos()).sum()
    of_sum = ((h[1::2] - h[::2]) / 2 * ((m + n) * theta).cos()).sum()
    torch.testing.assert_close(p[m] @ (h * p[n]), of_difference + of_sum, **TIGHT)


def test_the_cosine_integral_matches_scipy():
    x = torch.logspace(-8, 5, 4001, dtype=F64)
    torch.testing.assert_close(cosine_integral(x), torch.from_numpy(sici(x.numpy())[1]), **TIGHT)


def test_the_limit_is_the_integral_over_all_frequencies():
    x = torch.tensor([0.0, 0.5, 3.0, 42.0, 1000.0], dtype=F64)
    torch.testing.assert_close(decay_profile(x), exact_profile(x, 2_000_000), rtol=0, atol=1e-6)


def test_the_profile_falls_with_the_logarithm_and_crosses_zero_late():
    x = torch.tensor([200.0], dtype=F64)
    line = 1 - (math.log(200) + 0.5772156649) / math.log(10000)
    assert abs(decay_profile(x).item() - line) < 1e-3
    around = decay_profile(torch.tensor([6160.0, 6170.0]))
    assert around[0] > 0 > around[1]


def test_the_corrected_profile_is_the_sum_up_to_a_distance_of_60():
    x = torch.linspace(0, 60, 6001, dtype=F64)
    assert (decay_profile(x, 768) - exact_profile(x, 768)).abs().max() < 2e-4 / 10
    assert (decay_profile(x) - exact_profile(x, 768)).abs().max() > 2e-3


def test_the_corrected_profile_breaks_where_neighbours_are_half_a_turn_apart():
    onset = math.pi * smooth_range(768)
    before = torch.linspace(0, 0.99 * onset, 4001, dtype=F64)
    after = torch.linspace(1.5 * onset, 3 * onset, 4001, dtype=F64)
    assert (decay_profile(before, 768) - exact_profile(before, 768)).abs().max() < 2e-4
    assert (decay_profile(after, 768) - exact_profile(after, 768)).abs().max() > 5e-3


def test_far_beyond_the_smooth_range_the_sum_is_noise():
    x = torch.arange(1000, 3000)
    missed = (exact_profile(x, 768) - decay_profile(x)).square().mean().sqrt()
    assert smooth_range(768) < 42
    assert 0.3 / math.sqrt(768) < missed < 2 / math.sqrt(768)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sinusoidal(3, 5), "width: is 5, wanted an even number"),
        (lambda: sinusoidal(0, 4), "length is 0"),
        (lambda: sinusoidal(3, 4, 1.0), "base: is 1.0, wanted above 1"),
        (lambda: decay_profile(torch.tensor([-1.0])), "a distance is -1.0"),
        (lambda: decay_profile(torch.tensor([1.0]), None, 0.5), "base: is 0.5"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
