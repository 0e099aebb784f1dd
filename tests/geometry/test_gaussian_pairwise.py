"""Tables of all pairs equal the functions of single pairs, whatever the structure."""

import pytest
import torch

from unabridged.geometry import _tables
from unabridged.geometry.gaussian import Gaussian
from unabridged.geometry.pairwise import SINGLE, pairwise

F64 = torch.float64
D = 11


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def full(n, seed=0):
    root = draw(n, D, D, seed=seed)
    return Gaussian(draw(n, D, seed=seed + 1), root @ root.mT)


def diagonal(n, seed=0):
    return Gaussian.diagonal(draw(n, D, seed=seed), draw(n, D, seed=seed + 1).square())


def low_rank(n, seed=0):
    variances = draw(n, D, seed=seed + 2).square() + 0.1
    return Gaussian.low_rank(draw(n, D, seed=seed), draw(n, D, 3, seed=seed + 1), variances)


def sphere_and_factor(n, seed=0):
    variances = draw(n, 1, seed=seed + 2).square().expand(n, D)
    return Gaussian.low_rank(draw(n, D, seed=seed), draw(n, D, 2, seed=seed + 1), variances)


def factor_only(n, seed=0):
    return Gaussian.low_rank(draw(n, D, seed=seed), draw(n, D, 2, seed=seed + 1))


def singular(n, seed=0):
    thin = factor_only(n, seed)
    covariance = torch.cat([thin.covariance, 2 * thin.covariance, full(2).covariance])
    return Gaussian(torch.cat([thin.mean, thin.mean, full(2).mean]), covariance)


MAKERS = (full, diagonal, low_rank, sphere_and_factor, factor_only, singular)


def assert_same_table(ours, wanted):
    finite = wanted.isfinite()
    assert torch.equal(ours.isfinite(), finite)
    torch.testing.assert_close(ours[finite], wanted[finite], rtol=1e-9, atol=1e-20)


@pytest.mark.parametrize("metric", SINGLE)
@pytest.mark.parametrize("make", MAKERS)
def test_tables_equal_single_pairs(make, metric):
    p, q = make(5), make(7, seed=10)
    assert_same_table(pairwise(p, q, metric), SINGLE[metric](p[:, None], q[None]))
    table = pairwise(p, p, metric)
    assert_same_table(table, SINGLE[metric](p[:, None], p[None]))
    assert table.diagonal().abs().max() == 0


@pytest.mark.parametrize("metric", SINGLE)
@pytest.mark.parametrize("make", MAKERS[1:])
def test_structures_mix(make, metric):
    p, q = full(5), make(7, seed=10)
    assert_same_table(pairwise(p, q, metric), SINGLE[metric](p[:, None], q[None]))


@pytest.mark.parametrize("metric", SINGLE)
@pytest.mark.parametrize("make", [full, low_rank, sphere_and_factor])
def test_near_copies_keep_their_digits(make, metric):
    p = make(3)
    q = p._map(lambda tensor: tensor * (1 + 1e-7), lambda tensor, _: tensor)
    assert_same_table(pairwise(p, q, metric), SINGLE[metric](p[:, None], q[None]))
    assert 0 < pairwise(p, q, metric).diagonal().max() < 1e-5


@pytest.mark.parametrize("metric", SINGLE)
@pytest.mark.parametrize("make", [full, diagonal, low_rank, sphere_and_factor])
def test_blocks_of_any_size_give_the_same_table(make, metric, monkeypatch):
    p, q = make(5), make(7, seed=10)
    whole = pairwise(p, q, metric)
    monkeypatch.setattr(_tables, "BLOCK_BYTES", 1)
    torch.testing.assert_close(pairwise(p, q, metric), whole, rtol=1e-12, atol=1e-20)


def test_blocks_cover_everything_once_and_stay_within_the_budget():
    widths = [(s.start, s.stop) for s in _tables.blocks(10, _tables.BLOCK_BYTES // 4)]
    assert widths == [(0, 4), (4, 8), (8, 10)]
    assert list(_tables.blocks(0, 8)) == []


@pytest.mark.parametrize("metric", SINGLE)
def test_tables_carry_gradients(metric):
    root = draw(3, D, D).requires_grad_()
    mean = draw(3, D)
    p, q = Gaussian(mean, root @ root.mT), full(2, seed=10)
    table = pairwise(p, q, metric)
    wanted = SINGLE[metric](p[:, None], q[None])
    torch.testing.assert_close(table, wanted)
    ours, theirs = (
        torch.autograd.grad(t.sum(), root, retain_graph=True)[0] for t in (table, wanted)
    )
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("metric", SINGLE)
def test_empty_sets_and_dtypes(metric):
    p = full(3).to(torch.float32)
    assert pairwise(p[:0], p, metric).shape == (0, 3)
    assert pairwise(p, p[:0], metric).shape == (3, 0)
    table = pairwise(p, full(2, seed=10).to(torch.float32), metric)
    assert table.dtype == torch.float32
    assert table.shape == (3, 2)


def test_bad_arguments_are_named():
    p = full(3)
    with pytest.raises(
        ValueError, match="pairwise: metric is 'w2'; it must be one of kl, jeffreys"
    ):
        pairwise(p, p, "w2")
    with pytest.raises(ValueError, match=r"pairwise: P has batch shape \(\)"):
        pairwise(p[0], p)
    with pytest.raises(TypeError, match="pairwise: q is a Tensor"):
        pairwise(p, torch.eye(3))
    with pytest.raises(ValueError, match="pairwise: p has 11 dimensions and q has 2"):
        pairwise(p, Gaussian(torch.zeros(1, 2, dtype=F64), torch.eye(2, dtype=F64)))
