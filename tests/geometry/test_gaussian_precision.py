"""Every digit of the distances, against 50-digit arithmetic on the same float64 inputs."""

import pytest
import torch
from mpmath import mp
from torch.distributions import kl_divergence

import reference_gaussian as reference
from unabridged.geometry._dense_values import minus_log1p
from unabridged.geometry._exact_products import congruence, product, two_sum
from unabridged.geometry.gaussian import Gaussian
from unabridged.geometry.pairwise import SINGLE, pairwise

WANTED = 1e-9
F64 = torch.float64


def worst_errors(count, seed, *, largest_condition=6.0):
    """Name -> largest relative error of the single-pair function and of the table."""
    worst = {}
    for pair in reference.random_pairs(count, seed, largest_condition=largest_condition):
        truth = reference.distances(*pair)
        p, q = Gaussian(*pair[:2]), Gaussian(*pair[2:])
        for name in reference.NAMES:
            ours = {name: SINGLE[name](p, q), f"{name} table": pairwise(p[None], q[None], name)[0]}
            for key, value in ours.items():
                error = reference.relative_error(value, truth[name])
                worst[key] = max(worst.get(key, 0.0), error)
    return worst


def test_relative_error_is_below_1e_9_on_every_pair():
    worst = worst_errors(25, seed=1)
    assert len(worst) == 8
    assert max(worst.values()) <= WANTED, worst


@pytest.mark.slow
def test_relative_error_is_below_1e_9_on_every_of_1000_pairs():
    worst = worst_errors(1000, seed=0)
    assert max(worst.values()) <= WANTED, worst
    singles = [error for name, error in worst.items() if "table" not in name]
    assert max(singles) <= 1e-12, worst


def test_condition_numbers_to_1e_12_keep_seven_digits():
    worst = worst_errors(15, seed=2, largest_condition=12.0)
    assert max(worst.values()) <= 1e-7, worst


def textbook(p, q):
    """KL by torch.distributions and W2^2 by the trace formula, as everybody writes them."""
    values, vectors = torch.linalg.eigh(p.covariance)
    root = vectors * values.clamp_min(0).sqrt() @ vectors.mT
    fidelity = torch.linalg.eigvalsh(root @ q.covariance @ root).clamp_min(0).sqrt().sum()
    squared = p.covariance.trace() + q.covariance.trace() - 2 * fidelity
    return {
        "kl": kl_divergence(p.to_distribution(), q.to_distribution()),
        "wasserstein2": squared + (p.mean - q.mean).square().sum(),
    }


@pytest.mark.parametrize("name", ["kl", "wasserstein2"])
def test_textbook_formulas_lose_all_digits_where_ours_lose_none(name):
    generator = torch.Generator().manual_seed(3)
    pair = reference.random_pair(
        7, condition=1e3, difference=1e-8, family="relative", generator=generator
    )
    truth = reference.distances(*pair)[name]
    p, q = Gaussian(*pair[:2]), Gaussian(*pair[2:])
    assert reference.relative_error(textbook(p, q)[name], truth) > 0.1
    assert reference.relative_error(SINGLE[name](p, q), truth) < 1e-12


@pytest.mark.parametrize("name", reference.NAMES)
def test_low_rank_pairs_that_nearly_coincide_keep_their_digits(name):
    generator = torch.Generator().manual_seed(4)
    parts = [torch.randn(7, k, generator=generator, dtype=F64) for k in (1, 2, 2)]
    mean, factor, change = parts[0][:, 0], parts[1], parts[2]
    variances = torch.rand(7, generator=generator, dtype=F64) + 0.1
    p = Gaussian.low_rank(mean, factor + 1e-8 * change, variances * (1 + 1e-8))
    q = Gaussian.low_rank(mean, factor, variances)
    covariances = []
    for gaussian in (p, q):
        u = reference.exact(gaussian.structure.factor)
        covariances.append(u * u.T + mp.diag(gaussian.structure.variances.tolist()))
    middle = reference.exact(mean.unsqueeze(1))
    truth = getattr(reference, name)(middle, covariances[0], middle, covariances[1])
    assert reference.relative_error(SINGLE[name](p, q), truth) < WANTED
    assert reference.relative_error(pairwise(p[None], q[None], name)[0], truth) < WANTED


def test_an_exact_product_has_twice_the_digits_of_a_product():
    generator = torch.Generator().manual_seed(5)
    a = torch.randn(3, 11, generator=generator, dtype=F64) * 2.0 ** torch.arange(0, 33, 3)
    b = torch.randn(11, 5, generator=generator, dtype=F64)
    head, tail = product(a, b)
    truth = reference.exact(a) * reference.exact(b)
    for i in range(3):
        for j in range(5):
            both = mp.mpf(float(head[i, j])) + mp.mpf(float(tail[i, j]))
            assert abs(both - truth[i, j]) < 1e-19 * max(abs(v) for v in a[i].tolist())
    assert tail.abs().max() > 0


def test_a_congruence_survives_cancellation_that_kills_a_product():
    generator = torch.Generator().manual_seed(6)
    basis, s = reference.rotated(reference.spectrum(7, 1e10, generator), generator)
    whitener = torch.linalg.inv(torch.linalg.cholesky(s))
    truth = reference.exact(whitener) * reference.exact(s) * reference.exact(whitener).T
    wanted = torch.tensor([[float(truth[i, j]) for j in range(7)] for i in range(7)], dtype=F64)
    assert (congruence(whitener, s, whitener) - wanted).abs().max() < 1e-13
    assert (whitener @ s @ whitener.mT - wanted).abs().max() > 1e-10
    assert basis.shape == (7, 7)


def test_two_sum_loses_nothing():
    a, b = torch.tensor(1e16, dtype=F64), torch.tensor(1.2345, dtype=F64)
    head, tail = two_sum(a, b)
    exact = mp.mpf(1e16) + mp.mpf(1.2345)
    assert mp.mpf(float(head)) + mp.mpf(float(tail)) == mp.mpf("1e16") + mp.mpf(1.2345) == exact


def test_x_minus_log1p_keeps_its_digits_everywhere():
    points = [-0.999, -0.5, -0.4999, -1e-3, -1e-9, 1e-12, 1e-5, 0.1, 0.5, 0.5001, 7.0, 1e9]
    values = minus_log1p(torch.tensor(points, dtype=F64))
    for x, value in zip(points, values, strict=True):
        truth = mp.mpf(x) - mp.log1p(mp.mpf(x))
        assert reference.relative_error(value, truth) < 1e-15
    assert minus_log1p(torch.zeros(1, dtype=F64)) == 0


@pytest.mark.parametrize("name", reference.NAMES)
def test_the_rounding_of_a_factor_is_corrected_for(name):
    """Without the defect each of these is off by the condition number times machine epsilon."""
    generator = torch.Generator().manual_seed(7)
    for _ in range(3):
        pair = reference.random_pair(
            7, condition=1e9, difference=1e-8, family="absolute", generator=generator
        )
        truth = reference.distances(*pair)[name]
        value = SINGLE[name](Gaussian(*pair[:2]), Gaussian(*pair[2:]))
        assert reference.relative_error(value, truth) < 1e-11
