"""Dimensions: exactness of the chi-square bound, its coverage, and what a sample of pairs says."""

import math

import mpmath
import numpy as np
import pytest
import scipy.stats

import reference_projection as reference
from unabridged.geometry.dimensions import (
    classic_dimension,
    dimension_for,
    distortion_probability,
    embedding_dimension,
    estimate_dimension,
)
from unabridged.geometry.random_projection import RandomProjection


@pytest.mark.parametrize("dimension", [1, 2, 7, 100, 2000, 20_000])
@pytest.mark.parametrize("eps", [0.05, 0.3, 0.9])
def test_distortion_probability_is_the_two_chi_square_tails(dimension, eps):
    wanted = reference.chi_square_tails(dimension, eps)
    assert distortion_probability(dimension, eps) == pytest.approx(wanted, rel=1e-9, abs=1e-250)


def test_distortion_probability_is_right_in_the_far_tail():
    n, eps = 4000, mpmath.mpf("0.2")
    with mpmath.workdps(40):
        half = mpmath.mpf(n) / 2
        upper = mpmath.gammainc(half, half * (1 + eps), regularized=True)
        lower = mpmath.gammainc(half, 0, half * (1 - eps), regularized=True)
        wanted = float(upper + lower)
    assert wanted < 1e-15
    assert distortion_probability(n, 0.2) == pytest.approx(wanted, rel=1e-8)


def test_distortion_beyond_one_is_the_upper_tail_alone():
    wanted = scipy.stats.chi2(5).sf(5 * 2.5)
    assert distortion_probability(5, 1.5) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize(
    ("points", "eps", "failure"), [(2, 0.5, 0.3), (13, 0.7, 0.05), (200, 0.4, 0.01)]
)
def test_dimension_for_is_the_least_that_the_union_bound_allows(points, eps, failure):
    assert dimension_for(points, eps, failure=failure) == reference.least_dimension(
        points, eps, failure
    )


def test_dimension_for_halves_the_textbook_bound_at_the_same_failure():
    points = 10_000
    exact = dimension_for(points, 0.1, failure=1 / points)
    assert exact == 10_262
    assert classic_dimension(points, 0.1) == 22_105
    assert classic_dimension(points, 0.1) >= 2 * exact
    assert dimension_for(points, 0.1, failure=0.5) == 6_744


def test_dasgupta_gupta_promises_less_than_its_reputation():
    n = classic_dimension(10_000, 0.1, form="dasgupta-gupta")
    failure = 10_000 * 9_999 / 2 * distortion_probability(n, 0.1)
    assert n == 7_895
    assert 0.01 < failure < 0.05


def test_dimension_for_grows_with_points_and_falls_with_slack():
    assert dimension_for(10**6, 0.2) > dimension_for(10**3, 0.2) > dimension_for(10**3, 0.3)
    assert dimension_for(100, 0.2, failure=0.001) > dimension_for(100, 0.2, failure=0.1)


def failures(points, eps, dimension, trials, seed):
    """How often some distance of N points is distorted by eps or more, over projections."""
    X = np.random.default_rng(seed).standard_normal((points, 3 * points)) ** 3
    i, j = np.triu_indices(points, 1)
    lengths = ((X[i] - X[j]) ** 2).sum(axis=1)
    failed = 0
    for trial in range(trials):
        Y = RandomProjection("gaussian", X.shape[1], dimension, trial).transform(X)
        failed += np.abs(((Y[i] - Y[j]) ** 2).sum(axis=1) / lengths - 1).max() >= eps
    return failed


def test_coverage_stays_within_the_binomial_band():
    n = dimension_for(20, 0.5, failure=0.1)
    failed = failures(20, 0.5, n, trials=60, seed=1)
    assert failed <= scipy.stats.binom(60, 0.1).ppf(0.995)


def test_half_the_dimensions_fail_far_more_often():
    n = dimension_for(20, 0.5, failure=0.1)
    assert failures(20, 0.5, n // 2, trials=20, seed=1) > scipy.stats.binom(20, 0.1).ppf(0.999)


@pytest.mark.slow
@pytest.mark.parametrize(("points", "eps"), [(60, 0.3), (100, 0.5)])
def test_coverage_of_two_hundred_trials_stays_within_the_binomial_band(points, eps):
    n = dimension_for(points, eps, failure=0.1)
    failed = failures(points, eps, n, trials=200, seed=2)
    assert failed <= scipy.stats.binom(200, 0.1).ppf(0.995)


def test_coverage_for_a_single_pair_is_exact():
    # With one pair the union bound loses nothing: the failure rate is the stated one, not below it.
    n = dimension_for(2, 0.3, failure=0.1)
    failed = failures(2, 0.3, n, trials=1500, seed=3)
    law = scipy.stats.binom(1500, distortion_probability(n, 0.3))
    assert law.ppf(0.005) <= failed <= law.ppf(0.995)


def test_estimate_describes_the_projection_of_its_seed():
    X = np.random.default_rng(4).standard_normal((40, 53))
    i, j = np.triu_indices(40, 1)
    for kind in ("gaussian", "orthogonal"):
        found = estimate_dimension(X, 0.4, share=0.1, kind=kind, pairs=20_000, seed=9)
        Y = RandomProjection(kind, 53, found.dimension, 9).transform(X)
        ratio = ((Y[i] - Y[j]) ** 2).sum(axis=1) / ((X[i] - X[j]) ** 2).sum(axis=1)
        true_share = np.mean(np.abs(ratio - 1) >= 0.4)
        assert abs(found.distorted[found.dimension - 1] - true_share) < found.band


def test_estimate_of_low_dimensional_data_is_far_below_the_union_bound():
    rng = np.random.default_rng(5)
    X = rng.standard_normal((300, 3)) @ rng.standard_normal((3, 200))
    found = estimate_dimension(X, 0.3, share=0.05)
    assert found.lower <= found.dimension <= found.upper < dimension_for(300, 0.3)


def test_estimate_finds_that_no_smaller_orthogonal_projection_is_good_enough():
    X = np.random.default_rng(6).standard_normal((50, 5))
    found = estimate_dimension(X, 0.01, share=0.001)
    assert found.dimension == 5
    assert found.upper is None


def test_band_shrinks_with_the_root_of_the_pairs():
    X = np.random.default_rng(7).standard_normal((300, 11))
    small, large = (estimate_dimension(X, 0.5, pairs=n).band for n in (500, 2000))
    assert small == pytest.approx(2 * large)


def test_embedding_dimension_is_the_law():
    assert [embedding_dimension(n) for n in (512, 2048, 16_384, 65_536)] == [52, 64, 81, 93]
    assert embedding_dimension(10**6) == math.ceil(8.33 * math.log(10**6))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dimension_for(1, 0.1), "got points=1; wanted at least 2"),
        (lambda: dimension_for(10, 1.0), r"got eps=1\.0; wanted a number strictly between 0 and 1"),
        (lambda: dimension_for(10, 0.0), r"got eps=0\.0"),
        (lambda: dimension_for(10, 0.1, failure=0.0), r"got failure=0\.0"),
        (lambda: dimension_for(10, math.nan), "got eps=nan"),
        (lambda: distortion_probability(0, 0.1), "got dimension=0; wanted at least 1"),
        (lambda: classic_dimension(9, 0.1, form="folklore"), "wanted 'textbook' or"),
        (lambda: embedding_dimension(1), "got count=1; wanted at least 2"),
        (lambda: estimate_dimension(np.ones((5, 3)), 0.1), "without two different ones"),
        (lambda: estimate_dimension(np.ones((1, 3)), 0.1), "got 1 rows without two different"),
        (lambda: estimate_dimension(np.empty((0, 3)), 0.1), "got 0 rows without two different"),
        (lambda: estimate_dimension(np.full((5, 3), np.nan), 0.1), "got NaN or infinity"),
    ],
)
def test_bad_arguments_are_refused_in_one_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call()
