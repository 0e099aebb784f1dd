import pytest
import torch

from unabridged.attention.features import Sampler, best_rho, draw

KINDS = ["favor+", "favor++", "favor#"]
DIRECTIONS = ["independent", "orthogonal", "paired"]
WIDTH = 5


def moment(seed=0, trace=2.0):
    """A second moment with unlike axes."""
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(WIDTH, WIDTH, generator=generator, dtype=torch.float64)
    root = root * torch.logspace(0, -1, WIDTH, dtype=torch.float64)
    scatter = root @ root.mT
    return trace / scatter.trace() * scatter


def estimates(kind, z, directions, second_moment):
    """(m,) unbiased estimates of e^{|z|²/2} for q + k = z."""
    sampler = Sampler.of(kind, second_moment)
    u, importance = sampler.features(directions)
    determinant = ((1 + 1 / sampler.rho) / 2).log().sum() / 2
    return (u @ z + importance + determinant).exp()


@pytest.mark.parametrize("directions", DIRECTIONS)
@pytest.mark.parametrize("features", [2, 6, 34])
def test_draw_has_the_shape_asked_for_and_equal_bits(features, directions):
    w = draw(features, WIDTH, directions=directions, seed=3, redraws=2)
    assert w.shape == (2 * features, WIDTH)
    assert torch.equal(w, draw(features, WIDTH, directions=directions, seed=3, redraws=2))
    assert not torch.equal(w, draw(features, WIDTH, directions=directions, seed=4, redraws=2))
    assert not torch.equal(w[:features], w[features:])
    assert torch.equal(w[:features], draw(features, WIDTH, directions=directions, seed=3))


@pytest.mark.parametrize("directions", DIRECTIONS)
def test_every_direction_is_standard_normal(directions):
    """Means, covariances and fourth moments of 6,000 draws, each row of a block by itself."""
    features = 10
    w = draw(features, WIDTH, directions=directions, seed=0, redraws=6_000)
    rows = w.reshape(-1, features, WIDTH)
    torch.testing.assert_close(rows.mean(0), torch.zeros_like(rows[0]), rtol=0, atol=0.06)
    covariance = torch.einsum("nri,nrj->rij", rows, rows) / len(rows)
    eye = torch.eye(WIDTH, dtype=torch.float64).expand(features, -1, -1)
    torch.testing.assert_close(covariance, eye, rtol=0, atol=0.1)
    fourth = rows.square().sum(-1).square().mean(0)
    wanted = torch.full_like(fourth, WIDTH * (WIDTH + 2))
    torch.testing.assert_close(fourth, wanted, rtol=0.08, atol=0)


def test_blocks_are_orthogonal_and_norms_are_drawn():
    w = draw(2 * WIDTH, WIDTH, directions="orthogonal", seed=1)
    for block in w.split(WIDTH):
        gram = block @ block.mT
        torch.testing.assert_close(gram, torch.diag(gram.diagonal()), rtol=0, atol=1e-12)
    assert w.norm(dim=1).std() > 0.1


def test_pairs_are_opposite():
    w = draw(12, WIDTH, directions="paired", seed=1)
    assert torch.equal(w[0::2], -w[1::2])


@pytest.mark.parametrize("width", [1, 5, 32])
def test_rho_makes_the_mean_log_variance_least(width):
    spread = torch.tensor([0.01, 1.0, 7.0, 100.0], dtype=torch.float64)
    rho = best_rho(spread, width).requires_grad_()
    objective = width * ((1 + rho) / (2 * rho.sqrt())).log() + rho * spread
    (slope,) = torch.autograd.grad(objective.sum(), rho)
    torch.testing.assert_close(slope, torch.zeros_like(slope), rtol=0, atol=1e-10 * 100)
    assert ((rho > 0) & (rho < 1)).all()


def test_rho_is_the_published_a():
    """ρ = 1 / (1 - 8A) with the A of FAVOR# per axis, (1 - 2L - sqrt((1 + 2L)² + 8L)) / 16."""
    L = torch.tensor([0.1, 1.0, 30.0], dtype=torch.float64)
    A = (1 - 2 * L - ((1 + 2 * L) ** 2 + 8 * L).sqrt()) / 16
    torch.testing.assert_close(best_rho(L, 1), 1 / (1 - 8 * A))


@pytest.mark.parametrize("kind", KINDS)
def test_features_are_unbiased(kind):
    """z-test at |z|² = 2 over 200,000 independent features, and not by being constant."""
    z = torch.tensor([1.0, -0.6, 0.5, 0.5, -0.37], dtype=torch.float64)
    z = z * (2**0.5 / z.norm())
    w = draw(200_000, WIDTH, directions="independent", seed=2)
    got = estimates(kind, z, w, moment(trace=4.0))
    error = got.std() / len(got) ** 0.5
    assert abs(got.mean() - torch.tensor(1.0).exp()) < 4 * error
    assert error > 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_relative_variance_is_the_closed_form(kind):
    """At |z|² = 1/2, where the fourth moment that the estimate rests on is finite and small."""
    z = torch.tensor(
        [
            0.5,
            -0.3,
            0.3,
            0.2,
            0.1,
        ],
        dtype=torch.float64,
    )
    second_moment = moment(trace=2.0)
    got = estimates(kind, z, draw(400_000, WIDTH, directions="independent", seed=5), second_moment)
    sampler = Sampler.of(kind, second_moment)
    predicted = sampler.log_variance(torch.outer(z, z)).expm1()
    torch.testing.assert_close(got.var() / got.mean() ** 2, predicted, rtol=0.03, atol=0)


def test_each_kind_is_predicted_no_worse_than_the_one_before():
    for seed in range(5):
        second_moment = moment(seed, trace=10.0)
        plus, twice, sharp = (
            Sampler.of(kind, second_moment).log_variance(second_moment) for kind in KINDS
        )
        assert sharp < twice < plus
        torch.testing.assert_close(plus, second_moment.trace())


def test_equal_axes_leave_nothing_to_favor_sharp():
    second_moment = 3 * torch.eye(WIDTH, dtype=torch.float64)
    rho = [Sampler.of(kind, second_moment).rho for kind in ("favor++", "favor#")]
    torch.testing.assert_close(*rho)


def test_dependent_directions_vary_less_than_independent_ones():
    """Variance of means over 10 features, 4,000 draws each: paired < orthogonal < independent."""
    z = torch.tensor([0.6, -0.4, 0.5, 0.3, -0.2], dtype=torch.float64)
    variance = {}
    for directions in DIRECTIONS:
        w = draw(10, WIDTH, directions=directions, seed=7, redraws=4_000)
        variance[directions] = float((w @ z).exp().reshape(-1, 10).mean(1).var())
    assert variance["orthogonal"] < 0.97 * variance["independent"]
    assert variance["paired"] < 0.8 * variance["orthogonal"]
