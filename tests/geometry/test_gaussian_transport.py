"""Maps, geodesics and barycenters of Gaussians, by the equations that define them."""

import ot
import pytest
import torch

from unabridged.geometry.gaussian import Gaussian
from unabridged.geometry.transport import barycenter, geodesic, monge_map, wasserstein2

F64 = torch.float64


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def full(n=5, d=7, seed=0):
    root = draw(n, d, d, seed=seed)
    return Gaussian(draw(n, d, seed=seed + 1), root @ root.mT / d + 1e-4 * torch.eye(d, dtype=F64))


def thin(r, d=7, seed=0):
    return Gaussian.low_rank(draw(d, seed=seed), draw(d, r, seed=seed + 1))


def test_monge_map_carries_p_to_q_and_is_symmetric_positive():
    p, q = full(), full(seed=10)
    carried = monge_map(p, q)
    t = carried.matrix
    torch.testing.assert_close(t @ p.covariance @ t, q.covariance, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(t, t.mT)
    assert (torch.linalg.eigvalsh(t) > 0).all()
    torch.testing.assert_close(carried(p.mean), q.mean)


def test_monge_map_is_the_identity_at_equality_and_inverse_backwards():
    p, q = full(), full(seed=10)
    eye = torch.eye(7, dtype=F64).expand(5, 7, 7)
    torch.testing.assert_close(monge_map(p, p).matrix, eye, rtol=0, atol=0)
    both = monge_map(q, p).matrix @ monge_map(p, q).matrix
    torch.testing.assert_close(both, eye, rtol=0, atol=1e-9)


def test_the_cost_of_the_monge_map_is_w2():
    p, q = full(), full(seed=10)
    moved = monge_map(p, q).matrix - torch.eye(7, dtype=F64)
    cost = (moved @ p.covariance @ moved).diagonal(dim1=-2, dim2=-1).sum(-1)
    cost = cost + (p.mean - q.mean).square().sum(-1)
    torch.testing.assert_close(cost, wasserstein2(p, q), rtol=1e-10, atol=0)


def test_monge_map_from_a_singular_gaussian_exists_where_it_reaches():
    p, q = thin(3), thin(2, seed=10)
    t = monge_map(p, q).matrix
    torch.testing.assert_close(t @ p.covariance @ t.mT, q.covariance, rtol=1e-9, atol=1e-9)
    with pytest.raises(ValueError, match="monge_map: p has rank 2 in 7 dimensions and no map"):
        monge_map(q, p)


@pytest.mark.parametrize("structure", ["full", "to thin", "from thin", "thin", "diagonal"])
def test_geodesic_runs_at_constant_speed_from_p_to_q(structure):
    p, q = full(1)[0], full(1, seed=10)[0]
    if structure == "diagonal":
        p, q = (Gaussian.diagonal(g.mean, g.variance) for g in (p, q))
    p = thin(3) if structure in ("from thin", "thin") else p
    q = thin(2, seed=20) if structure in ("to thin", "thin") else q
    whole = wasserstein2(p, q).sqrt()
    for t in (0.0, 0.25, 0.5, 1.0):
        there = wasserstein2(p, geodesic(p, q, t)).sqrt()
        back = wasserstein2(geodesic(p, q, t), q).sqrt()
        torch.testing.assert_close(there, t * whole, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(back, (1 - t) * whole, rtol=1e-6, atol=1e-6)


def test_geodesic_outside_the_unit_interval_is_refused():
    with pytest.raises(ValueError, match=r"geodesic: t is 1\.5; it must lie between 0 and 1"):
        geodesic(full(), full(), 1.5)


def test_barycenter_satisfies_its_fixed_point_equation():
    gaussians, weights = full(), torch.tensor([1.0, 2, 3, 4, 5], dtype=F64)
    center = barycenter(gaussians, weights)
    share = weights / weights.sum()
    maps = monge_map(center, gaussians).matrix
    mean_map = (share[:, None, None] * maps).sum(0)
    torch.testing.assert_close(mean_map, torch.eye(7, dtype=F64), rtol=0, atol=1e-9)
    torch.testing.assert_close(center.mean, (share[:, None] * gaussians.mean).sum(0))


def test_barycenter_of_two_is_their_geodesic():
    gaussians = full(2)
    center = barycenter(gaussians, torch.tensor([0.7, 0.3], dtype=F64))
    between = geodesic(gaussians[0], gaussians[1], 0.3)
    torch.testing.assert_close(center.covariance, between.covariance, rtol=1e-9, atol=1e-11)


def test_barycenter_is_where_the_mean_cost_is_least():
    gaussians = full()
    center = barycenter(gaussians)
    least = wasserstein2(center, gaussians).mean()
    for seed in range(5):
        step = 1e-2 * draw(7, 7, seed=seed)
        other = Gaussian(center.mean, center.covariance + step @ step.mT)
        assert wasserstein2(other, gaussians).mean() > least


def test_barycenter_of_diagonal_gaussians_averages_standard_deviations():
    gaussians = Gaussian.diagonal(draw(5, 7), draw(5, 7).square())
    wanted = gaussians.variance.sqrt().mean(0).square()
    torch.testing.assert_close(barycenter(gaussians).variance, wanted)
    dense = Gaussian(gaussians.mean, gaussians.covariance + 0 * torch.eye(7, dtype=F64))
    torch.testing.assert_close(barycenter(dense).variance, wanted, rtol=1e-8, atol=0)


def test_barycenter_and_w2_equal_those_of_pot():
    p, q = full(), full(seed=10)
    theirs = ot.gaussian.bures_wasserstein_distance(
        p.mean, q.mean, p.covariance, q.covariance, paired=True
    )
    torch.testing.assert_close(wasserstein2(p, q).sqrt(), theirs, rtol=1e-8, atol=0)
    mean, covariance = ot.gaussian.bures_wasserstein_barycenter(
        p.mean.numpy(), p.covariance.numpy(), num_iter=1000, eps=1e-14
    )
    ours = barycenter(p)
    torch.testing.assert_close(ours.mean, torch.from_numpy(mean))
    torch.testing.assert_close(ours.covariance, torch.from_numpy(covariance), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize(
    "weights",
    [torch.ones(3), torch.zeros(5), -torch.ones(5), torch.full((5,), float("nan"))],
    ids=["shape", "zero", "negative", "nan"],
)
def test_bad_weights_are_refused(weights):
    with pytest.raises(ValueError, match="barycenter: weights has shape"):
        barycenter(full(), weights)


def test_barycenter_wants_one_axis_of_gaussians():
    with pytest.raises(ValueError, match=r"barycenter: gaussians has batch shape \(\)"):
        barycenter(full()[0])
    with pytest.raises(ValueError, match=r"barycenter: gaussians has batch shape \(0,\)"):
        barycenter(full()[:0])
