import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf as sklearn_ledoit_wolf

from unabridged.geometry.moments import Moments
from unabridged.geometry.shrinkage import ledoit_wolf, oas, shrinkage_intensity

D = 11


SPREAD = np.geomspace(2, 1, D)


def rows(n, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, D)) * SPREAD + 2


@pytest.mark.parametrize("n", [5, 11, 50, 1000])
def test_ledoit_wolf_from_moments_equals_scikit_learn_on_the_data(n):
    X = rows(n)
    assert ledoit_wolf(Moments.of(X)) == pytest.approx(sklearn_ledoit_wolf(X)[1], abs=1e-12)


def test_ledoit_wolf_of_merged_moments_equals_that_of_all_rows():
    X = rows(60)
    merged = Moments.of(X[:7]) + Moments.of(X[7:])
    assert ledoit_wolf(merged) == pytest.approx(sklearn_ledoit_wolf(X)[1], abs=1e-12)


def test_oas_equals_its_printed_formula():
    X = rows(30)
    S = np.cov(X.T, ddof=0)
    top = (1 - 2 / D) * np.trace(S @ S) + np.trace(S) ** 2
    bottom = (30 + 1 - 2 / D) * (np.trace(S @ S) - np.trace(S) ** 2 / D)
    assert oas(Moments.of(X)) == pytest.approx(top / bottom, abs=1e-12)


@pytest.mark.parametrize("estimate", [ledoit_wolf, oas])
def test_shrinkage_reduces_the_expected_error_and_vanishes_with_data(estimate):
    truth = np.diag(SPREAD**2)
    plain, shrunk = [], []
    for seed in range(40):
        moments = Moments.of(rows(15, seed))
        S, rho = moments.covariance(), estimate(moments)
        target = np.trace(S) / D * np.eye(D)
        plain.append(np.linalg.norm(S - truth) ** 2)
        shrunk.append(np.linalg.norm((1 - rho) * S + rho * target - truth) ** 2)
    assert np.mean(shrunk) < 0.95 * np.mean(plain)
    assert estimate(Moments.of(rows(50_000))) < 2e-3


@pytest.mark.parametrize("estimate", [ledoit_wolf, oas])
def test_a_sphere_needs_no_shrinkage(estimate):
    X = np.vstack([np.eye(D), -np.eye(D)])
    assert estimate(Moments.of(X)) == 0.0
    assert estimate(Moments.of(np.ones((3, D)))) == 0.0


def test_unknown_names_raise():
    with pytest.raises(ValueError, match="kind is 'lw'; choose 'none', 'ledoit_wolf' or 'oas'"):
        shrinkage_intensity(Moments.of(rows(9)), "lw")
    assert shrinkage_intensity(Moments.of(rows(9)), "none") == 0.0
