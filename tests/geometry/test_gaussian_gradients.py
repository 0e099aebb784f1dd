"""Derivatives of the distances: right everywhere, above all where autograd through eigh is NaN."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from unabridged.geometry.divergences import bhattacharyya, hellinger, jeffreys, kl
from unabridged.geometry.gaussian import Gaussian
from unabridged.geometry.transport import barycenter, geodesic, monge_map, wasserstein2

F64 = torch.float64
DISTANCES = {f.__name__: f for f in (kl, jeffreys, bhattacharyya, hellinger, wasserstein2)}


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def full(mean, root):
    d = root.shape[-1]
    return Gaussian(mean, root @ root.mT / d + 0.1 * torch.eye(d, dtype=F64))


def diagonal(mean, root):
    return Gaussian.diagonal(mean, root.square().sum(-1) + 0.1)


def low_rank(mean, root):
    return Gaussian.low_rank(mean, root[..., :2], root[..., 2].square() + 0.1)


STRUCTURES = {"full": full, "diagonal": diagonal, "low_rank": low_rank}
PLACES = {
    "apart": (draw(2, 3), draw(2, 3, seed=1), draw(2, 3, 3, seed=2), draw(2, 3, 3, seed=3)),
    "p = q": (draw(2, 3), draw(2, 3), draw(2, 3, 3, seed=2), draw(2, 3, 3, seed=2)),
    "identity": (torch.zeros(1, 3, dtype=F64),) * 2 + (torch.eye(3, dtype=F64)[None],) * 2,
}


def leaves(place):
    return [tensor.clone().requires_grad_() for tensor in PLACES[place]]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("name", DISTANCES)
def test_gradcheck(name, structure, place):
    make, distance = STRUCTURES[structure], DISTANCES[name]
    assert gradcheck(lambda m, n, a, b: distance(make(m, a), make(n, b)), leaves(place))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", ["kl", "jeffreys", "bhattacharyya", "wasserstein2"])
def test_second_derivatives_too(name, place):
    distance = DISTANCES[name]
    assert gradgradcheck(lambda m, n, a, b: distance(full(m, a), full(n, b)), leaves(place))


@pytest.mark.parametrize("name", DISTANCES)
def test_gradient_is_exactly_zero_where_p_equals_q(name):
    inputs = leaves("p = q")
    m, n, a, b = inputs
    DISTANCES[name](full(m, a), full(n, b)).sum().backward()
    assert all(tensor.grad.abs().max() == 0 for tensor in inputs)


def test_gradient_of_w2_near_equality_keeps_its_digits():
    covariance = full(draw(3), draw(3, 3, seed=2)).covariance
    step = 1e-8 * torch.diag(torch.tensor([1.0, 2.0, 3.0], dtype=F64))
    q = covariance.clone().requires_grad_()
    mean = torch.zeros(3, dtype=F64)
    wasserstein2(Gaussian(mean, covariance + step), Gaussian(mean, q)).backward()
    # To first order I - T solves S K + K S = D, with K = -gradient.
    left = -(covariance @ q.grad + q.grad @ covariance)
    torch.testing.assert_close(left, (covariance + step) - covariance, rtol=0, atol=1e-15)


def test_gradient_of_w2_is_identity_minus_the_map():
    p, q = full(draw(3), draw(3, 3, seed=2)), full(draw(3, seed=1), draw(3, 3, seed=3))
    covariance = p.covariance.clone().requires_grad_()
    wasserstein2(Gaussian(p.mean, covariance), q).backward()
    wanted = torch.eye(3, dtype=F64) - monge_map(p, q).matrix
    torch.testing.assert_close(covariance.grad, wanted)


def test_autograd_through_eigh_is_nan_at_the_identity_and_ours_is_not():
    eye = torch.eye(3, dtype=F64).requires_grad_()
    values, vectors = torch.linalg.eigh(eye @ eye)
    (vectors @ values.sqrt().diag() @ vectors.mT).sum().backward()
    assert eye.grad.isnan().any()
    ours = torch.eye(3, dtype=F64).requires_grad_()
    mean = torch.zeros(3, dtype=F64)
    wasserstein2(Gaussian(mean, ours), Gaussian(mean, 4 * torch.eye(3, dtype=F64))).backward()
    torch.testing.assert_close(ours.grad, -torch.eye(3, dtype=F64))


def test_singular_gaussians_that_coincide_have_zero_gradient():
    factor = draw(5, 2).requires_grad_()
    p = Gaussian.low_rank(torch.zeros(5, dtype=F64), factor)
    wasserstein2(p, Gaussian(p.mean, p.covariance.detach())).backward()
    assert factor.grad.abs().max() <= 1e-14


@pytest.mark.parametrize("place", ["apart", "identity"])
def test_monge_map_and_geodesic_are_differentiable(place):
    _, _, a, b = leaves(place)
    mean = torch.zeros(3, dtype=F64)
    assert gradcheck(lambda a, b: monge_map(full(mean, a), full(mean, b)).matrix, (a, b))
    assert gradcheck(lambda a, b: geodesic(full(mean, a), full(mean, b), 0.3).covariance, (a, b))


def test_barycenter_is_differentiable_in_covariances_and_weights():
    root = draw(3, 2, 2).requires_grad_()
    weights = torch.tensor([0.1, 0.2, 0.7], dtype=F64).requires_grad_()
    mean = draw(3, 2)
    assert gradcheck(
        lambda root, weights: barycenter(full(mean, root), weights).covariance, (root, weights)
    )
