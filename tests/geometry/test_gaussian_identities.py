"""What every distance between Gaussians must obey, whatever the structure of the covariances."""

from fractions import Fraction

import numpy as np
import pytest
import sympy
import torch
from scipy.optimize import linear_sum_assignment
from torch.distributions import MultivariateNormal, kl_divergence

from unabridged.geometry.divergences import bhattacharyya, hellinger, jeffreys, kl
from unabridged.geometry.gaussian import Gaussian
from unabridged.geometry.transport import wasserstein2

F64 = torch.float64
DISTANCES = {f.__name__: f for f in (kl, jeffreys, bhattacharyya, hellinger, wasserstein2)}
DENSITY = ("kl", "jeffreys", "bhattacharyya", "hellinger")


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def full(n=5, d=7, seed=0):
    root = draw(n, d, d, seed=seed)
    return Gaussian(draw(n, d, seed=seed + 1), root @ root.mT / d + 0.1 * torch.eye(d, dtype=F64))


def diagonal(n=5, d=7, seed=0):
    return Gaussian.diagonal(draw(n, d, seed=seed), draw(n, d, seed=seed + 1).square() + 0.1)


def low_rank(n=5, d=7, seed=0):
    variances = draw(n, d, seed=seed + 2).square() + 0.1
    return Gaussian.low_rank(draw(n, d, seed=seed), draw(n, d, 2, seed=seed + 1), variances)


STRUCTURES = {"full": full, "diagonal": diagonal, "low_rank": low_rank}


def dense(gaussian):
    return Gaussian(gaussian.mean, gaussian.covariance)


@pytest.fixture(params=DISTANCES)
def distance(request):
    return DISTANCES[request.param]


@pytest.fixture(params=STRUCTURES)
def make(request):
    return STRUCTURES[request.param]


def test_distance_of_equal_gaussians_is_zero(distance, make):
    p = make()
    assert distance(p, p).abs().max() == 0
    copied = distance(p, dense(p)).abs().max()
    assert copied <= 1e-24 if distance is not hellinger else copied <= 1e-12


def test_w2_of_a_gaussian_to_itself_is_below_1e_12_in_either_dtype():
    for dtype in (torch.float32, F64):
        p = full(3, 61).to(dtype)
        assert wasserstein2(p, p).sqrt().max() <= 1e-12


def test_distances_are_positive_otherwise(distance, make):
    assert (distance(make(seed=0), make(seed=10)) > 1e-3).all()


def test_every_structure_agrees_with_its_dense_twin(distance, make):
    p, q = make(seed=0), make(seed=10)
    torch.testing.assert_close(distance(p, q), distance(dense(p), dense(q)), rtol=1e-12, atol=0)
    mixed = full(seed=20)
    torch.testing.assert_close(distance(p, mixed), distance(dense(p), mixed), rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", ["jeffreys", "bhattacharyya", "hellinger", "wasserstein2"])
def test_symmetric_distances_are_symmetric(name, make):
    p, q = make(seed=0), make(seed=10)
    torch.testing.assert_close(DISTANCES[name](p, q), DISTANCES[name](q, p), rtol=1e-13, atol=0)


def test_jeffreys_is_kl_both_ways(make):
    p, q = make(seed=0), make(seed=10)
    torch.testing.assert_close(jeffreys(p, q), kl(p, q) + kl(q, p), rtol=1e-12, atol=0)


def test_w2_and_hellinger_obey_the_triangle_inequality():
    p, q, r = full(101, 3), full(101, 3, seed=10), full(101, 3, seed=20)
    for metric in (lambda a, b: wasserstein2(a, b).sqrt(), hellinger):
        assert (metric(p, r) <= metric(p, q) + metric(q, r)).all()


def affine(gaussian, matrix, shift):
    mean = (matrix @ gaussian.mean.unsqueeze(-1)).squeeze(-1) + shift
    return Gaussian(mean, matrix @ gaussian.covariance @ matrix.mT)


@pytest.mark.parametrize("name", DENSITY)
def test_divergences_of_densities_are_invariant_under_affine_maps(name):
    matrix, shift = draw(7, 7, seed=3) + 3 * torch.eye(7, dtype=F64), draw(7, seed=4)
    p, q = full(seed=0), full(seed=10)
    moved = DISTANCES[name](affine(p, matrix, shift), affine(q, matrix, shift))
    torch.testing.assert_close(moved, DISTANCES[name](p, q), rtol=1e-10, atol=0)


def test_w2_is_invariant_under_rigid_motions_only_and_scales_by_the_square():
    rotation = torch.linalg.qr(draw(7, 7)).Q
    p, q, shift = full(seed=0), full(seed=10), draw(7)
    before = wasserstein2(p, q)
    moved = wasserstein2(affine(p, rotation, shift), affine(q, rotation, shift))
    torch.testing.assert_close(moved, before, rtol=1e-12, atol=0)
    scaled = wasserstein2(affine(p, -3 * rotation, shift), affine(q, -3 * rotation, shift))
    torch.testing.assert_close(scaled, 9 * before, rtol=1e-12, atol=0)
    sheared = torch.eye(7, dtype=F64) + draw(7, 7)
    assert not torch.allclose(
        wasserstein2(affine(p, sheared, shift), affine(q, sheared, shift)), before
    )


@pytest.mark.parametrize("name", ["kl", "jeffreys", "bhattacharyya", "wasserstein2"])
def test_independent_products_add(name):
    def joined(a, b):
        covariances = [
            torch.block_diag(s, t) for s, t in zip(a.covariance, b.covariance, strict=False)
        ]
        return Gaussian(torch.cat([a.mean, b.mean], -1), torch.stack(covariances))

    p, q, r, s = (full(5, d, seed=k) for k, d in ((0, 3), (10, 3), (20, 5), (30, 5)))
    distance = DISTANCES[name]
    together = distance(joined(p, r), joined(q, s))
    torch.testing.assert_close(together, distance(p, q) + distance(r, s), rtol=1e-12, atol=0)


def test_w2_is_the_frobenius_distance_of_roots_when_covariances_commute():
    basis = torch.linalg.qr(draw(7, 7)).Q
    a, b = draw(7, seed=1).abs(), draw(7, seed=2).abs()
    p, q = (Gaussian(torch.zeros(7, dtype=F64), basis * s**2 @ basis.mT) for s in (a, b))
    torch.testing.assert_close(wasserstein2(p, q), (a - b).square().sum(), rtol=1e-12, atol=0)


def test_distances_to_the_standard_normal_have_their_special_forms():
    p = full()
    q = Gaussian(torch.zeros(7, dtype=F64), torch.eye(7, dtype=F64))
    values = torch.linalg.eigvalsh(p.covariance)
    square = p.mean.square().sum(-1)
    torch.testing.assert_close(kl(p, q), ((values - 1 - values.log()).sum(-1) + square) / 2)
    torch.testing.assert_close(wasserstein2(p, q), (values.sqrt() - 1).square().sum(-1) + square)
    half = (p.covariance + q.covariance) / 2
    moved = (p.mean * torch.linalg.solve(half, p.mean)).sum(-1) / 8
    logs = (((values + 1) / 2).log() - values.log() / 2).sum(-1) / 2
    torch.testing.assert_close(bhattacharyya(p, q), logs + moved)


def test_both_trace_formulas_and_the_procrustes_residual_are_the_same_w2():
    p, q = full(1, seed=0)[0], full(1, seed=10)[0]
    moved = (p.mean - q.mean).square().sum()
    whole = p.covariance.trace() + q.covariance.trace()
    p_root, q_root = (torch.linalg.cholesky(g.covariance) for g in (p, q))
    first = torch.linalg.eigvalsh(p_root.mT @ q.covariance @ p_root).sqrt().sum()
    second = torch.linalg.eigvals(p.covariance @ q.covariance).real.sqrt().sum()
    left, _, right = torch.linalg.svd(q_root.mT @ p_root)
    residual = (p_root - q_root @ left @ right).square().sum()
    for value in (whole - 2 * first, whole - 2 * second, residual):
        torch.testing.assert_close(wasserstein2(p, q), value + moved, rtol=1e-10, atol=0)


def test_bhattacharyya_is_below_jeffreys_over_eight_and_kl_over_two():
    p, q = full(101, 3), full(101, 3, seed=10)
    assert (bhattacharyya(p, q) <= jeffreys(p, q) / 8).all()
    assert (bhattacharyya(p, q) <= kl(p, q) / 2).all()


def test_bhattacharyya_reaches_jeffreys_over_eight_as_p_approaches_q():
    q = full()
    gaps = []
    for step in (1e-2, 1e-4, 1e-6):
        p = Gaussian(q.mean + step, q.covariance * (1 + step))
        gaps.append(float((8 * bhattacharyya(p, q) / jeffreys(p, q) - 1).abs().max()))
    assert gaps[0] > 1e-6 > gaps[1] > 1e-12 > gaps[2]


def test_total_variation_in_one_dimension_lies_between_its_bounds():
    x = torch.linspace(-40, 40, 200_001, dtype=F64)
    p, q = full(11, 1), full(11, 1, seed=10)
    densities = [g.to_distribution().log_prob(x[:, None, None]).exp() for g in (p, q)]
    variation = torch.trapezoid((densities[0] - densities[1]).abs(), x, dim=0) / 2
    overlap = torch.trapezoid((densities[0] * densities[1]).sqrt(), x, dim=0)
    torch.testing.assert_close(bhattacharyya(p, q), -overlap.log(), rtol=1e-6, atol=1e-9)
    assert (hellinger(p, q) ** 2 <= variation + 1e-9).all()
    assert (variation <= (kl(p, q) / 2).sqrt() + 1e-9).all()


def test_talagrand_bounds_w2_by_kl():
    p, q = full(101, 3), full(101, 3, seed=10)
    largest = torch.linalg.eigvalsh(q.covariance)[:, -1]
    assert (wasserstein2(p, q) <= 2 * largest * kl(p, q)).all()


def test_gelbrich_bounds_the_exact_transport_cost_of_any_two_samples():
    for seed in range(5):
        x, y = draw(23, 3, seed=seed).exp(), draw(23, 3, seed=seed + 50) ** 3
        cost = torch.cdist(x, y).square()
        rows, columns = linear_sum_assignment(cost.numpy())
        exact = float(cost[rows, columns].mean())
        bound = float(wasserstein2(Gaussian.from_samples(x), Gaussian.from_samples(y)))
        assert 0 < bound <= exact * (1 + 1e-12)


def test_kl_is_the_mean_log_ratio_of_samples():
    p, q = full(1, 3)[0], full(1, 3, seed=10)[0]
    torch.manual_seed(0)
    x = p.to_distribution().sample((200_000,))
    ratios = p.to_distribution().log_prob(x) - q.to_distribution().log_prob(x)
    error = ratios.std() / 200_000**0.5
    assert abs(ratios.mean() - kl(p, q)) < 4 * error


def test_kl_near_equality_is_half_the_fisher_form():
    q = full(1)[0]
    direction, shift = draw(7, 7, seed=5), draw(7, seed=6)
    direction = (direction + direction.mT) / 2
    inverse = torch.linalg.inv(q.covariance)
    fisher = (inverse @ direction @ inverse @ direction).trace() / 2 + shift @ inverse @ shift
    ratios = [
        float(
            kl(Gaussian(q.mean + t * shift, q.covariance + t * direction), q) / (fisher * t**2 / 2)
        )
        for t in (1e-3, 1e-5, 1e-7)
    ]
    errors = [abs(ratio - 1) for ratio in ratios]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-5


def test_kl_equals_that_of_torch_distributions():
    p, q = full(), full(seed=10)
    theirs = kl_divergence(p.to_distribution(), q.to_distribution())
    torch.testing.assert_close(kl(p, q), theirs, rtol=1e-11, atol=0)
    torch.testing.assert_close(kl(p.to_distribution(), q.to_distribution()), theirs)
    p, q = low_rank(), low_rank(seed=10)
    theirs = kl_divergence(p.to_distribution(), q.to_distribution())
    torch.testing.assert_close(kl(p, q), theirs, rtol=1e-11, atol=0)
    p = MultivariateNormal(torch.zeros(2), torch.eye(2))
    assert kl(p, p) == 0


def test_rational_gaussians_have_their_exact_values():
    delta = Fraction(3, 2)
    p = Gaussian(torch.tensor([1.5], dtype=F64), torch.tensor([[2.25]], dtype=F64))
    q = Gaussian(torch.tensor([0.0], dtype=F64), torch.tensor([[0.25]], dtype=F64))
    assert float(wasserstein2(p, q)) == pytest.approx(
        float((Fraction(3, 2) - Fraction(1, 2)) ** 2 + delta**2), rel=1e-15
    )
    wanted = sympy.Rational(9) - 1 - sympy.log(9) + sympy.Rational(9)
    assert float(kl(p, q)) == pytest.approx(float(wanted / 2), rel=1e-15)
    first, second = sympy.Matrix([[2, 1], [1, 2]]), sympy.Matrix([[5, 4], [4, 5]])
    product = first * second
    fidelity = sum(sympy.sqrt(value) * count for value, count in product.eigenvals().items())
    exact = first.trace() + second.trace() - 2 * fidelity
    mean = torch.zeros(2, dtype=F64)
    p, q = (Gaussian(mean, torch.from_numpy(np.array(m, dtype=float))) for m in (first, second))
    assert float(wasserstein2(p, q)) == pytest.approx(float(exact), rel=1e-14)
    ratio = sympy.log(first.det() / second.det())
    exact = ((second.inv() * first).trace() - 2 - ratio) / 2
    assert float(kl(p, q)) == pytest.approx(float(exact), rel=1e-14)


def test_w2_accepts_singular_covariances_and_point_masses():
    line = Gaussian.low_rank(torch.zeros(3, dtype=F64), torch.tensor([[2.0], [0], [0]], dtype=F64))
    other = Gaussian.low_rank(torch.zeros(3, dtype=F64), torch.tensor([[0.0], [3], [0]], dtype=F64))
    point = Gaussian(torch.ones(3, dtype=F64), torch.zeros(3, 3, dtype=F64))
    ball = Gaussian(torch.zeros(3, dtype=F64), torch.eye(3, dtype=F64))
    for a, b, wanted in (
        (line, other, 13.0),
        (point, ball, 6.0),
        (line, ball, 3.0),
        (point, line, 7.0),
    ):
        assert float(wasserstein2(a, b)) == pytest.approx(wanted, rel=1e-14)
        assert float(wasserstein2(b, a)) == pytest.approx(wanted, rel=1e-14)
    assert wasserstein2(line, line) == 0


@pytest.mark.parametrize("name", ["kl", "jeffreys", "bhattacharyya"])
def test_divergences_of_densities_are_inf_unless_supports_agree(name):
    distance = DISTANCES[name]
    samples = draw(3, 7)
    p = Gaussian.from_samples(samples)
    wider = Gaussian(p.mean, 2 * p.covariance)
    aside = Gaussian(p.mean + 1, p.covariance)
    elsewhere = Gaussian.from_samples(draw(3, 7, seed=9))
    for other in (aside, elsewhere, full(1)[0], Gaussian.from_samples(samples[:2])):
        assert distance(p, other) == torch.inf
        assert distance(other, p) == torch.inf
        assert hellinger(p, other) == 1
    flat = [
        Gaussian.diagonal(torch.zeros(2, dtype=F64), torch.ones(2, dtype=F64) * s) for s in (1, 2)
    ]
    torch.testing.assert_close(distance(p, wider), distance(*flat), rtol=1e-10, atol=0)
    shifted = Gaussian(p.mean + samples[0] - samples[1], p.covariance)
    assert 0 < distance(p, shifted) < torch.inf


def test_diagonal_zero_variances_follow_the_same_rule():
    zero, one = torch.tensor([1.0, 0.0]), torch.tensor([1.0, 1.0])
    p, q = Gaussian.diagonal(torch.zeros(2), zero), Gaussian.diagonal(torch.zeros(2), one)
    aside = Gaussian.diagonal(torch.ones(2), zero)
    for distance in (kl, jeffreys, bhattacharyya):
        assert distance(p, p) == 0
        assert distance(p, q) == distance(q, p) == distance(p, aside) == torch.inf
    assert wasserstein2(p, q) == 1


def test_one_dimension_and_empty_batches_work(distance):
    p, q = full(5, 1), full(5, 1, seed=10)
    assert distance(p, q).shape == (5,)
    assert distance(p[:0], q[:0]).shape == (0,)
    assert distance(p[:, None], q[None]).shape == (5, 5)
    assert distance(p[0], q[0]).shape == ()


def test_results_keep_the_dtype_of_the_arguments(distance):
    p, q = full(seed=0).to(torch.float32), full(seed=10).to(torch.float32)
    ours, exact = distance(p, q), distance(p.to(F64), q.to(F64))
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, exact.float(), rtol=1e-6, atol=0)


def test_arguments_that_do_not_fit_are_named(distance):
    p = full(5, 3)
    for other, kind, words in (
        (
            full(5, 2),
            ValueError,
            "p has 3 dimensions and q has 2; both must live in the same space",
        ),
        (full(4, 3), ValueError, r"p has batch shape \(5,\) and q \(4,\)"),
        (p.to(torch.float32), TypeError, "p is float64 on cpu and q is float32 on cpu"),
        (torch.eye(3), TypeError, "q is a Tensor; a Gaussian"),
    ):
        with pytest.raises(kind, match=f"{distance.__name__}: {words}"):
            distance(p, other)
