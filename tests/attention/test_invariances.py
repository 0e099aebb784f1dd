import itertools

import pytest
import torch

from attention import laws
from unabridged.attention.invariances import Cloud, Frame, settle
from unabridged.geometry.gaussian import Gaussian
from unabridged.geometry.transport import monge_map

CHOICES = ["none", "keys", "centred", "monge"]


def clouds(seed=0, *, mask=None, dtype=torch.float64):
    """Off-centre heads whose queries and keys are stretched along unlike axes."""
    query, key, _ = laws.heads(seed, keys=31, queries=31, dtype=dtype)
    stretch = torch.logspace(-0.5, 0.5, laws.D, dtype=dtype)
    return Cloud(query * stretch + 0.7, mask, 0.8), Cloud(key / stretch.flip(0) + 1.1, mask, 0.8)


def seen(frame, queries, keys):
    """Queries and keys as they look from a frame, and the log weights of the keys."""
    key, weights = frame.keys(keys.scale * keys.points)
    query = queries.scale * queries.points
    query = query if frame.query_shift is None else query - frame.query_shift
    query = query if frame.query_basis is None else query @ frame.query_basis.mT
    return query, key, 0.0 if weights is None else weights


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_leaves_the_softmax_alone(choice):
    queries, keys = clouds()
    query, key, weights = seen(settle(queries, keys, choice), queries, keys)
    wanted = 0.64 * queries.points @ keys.points.mT
    got = query @ key.mT + (weights.mT if choice in ("centred", "monge") else 0.0)
    laws.close(got.softmax(-1), wanted.softmax(-1))


@pytest.mark.parametrize("choice", CHOICES)
def test_second_moment_is_the_mean_over_all_pairs(choice):
    queries, keys = clouds()
    frame = settle(queries, keys, choice)
    query, key, _ = seen(frame, queries, keys)
    sums = query[..., :, None, :] + key[..., None, :, :]
    wanted = torch.einsum("bhijd,bhije->bhde", sums, sums) / sums.shape[2] / sums.shape[3]
    laws.close(frame.second_moment(queries, keys), wanted)


def test_each_choice_makes_sums_smaller():
    queries, keys = clouds()
    traces = [
        settle(queries, keys, c).second_moment(queries, keys).diagonal(dim1=-2, dim2=-1).sum(-1)
        for c in CHOICES
    ]
    for larger, smaller in itertools.pairwise(traces):
        assert (smaller < larger).all()


def test_the_basis_is_the_monge_map_of_geometry():
    """T'T carries N(0, S_keys) onto N(0, S_queries), and both covariances become one diagonal."""
    queries, keys = clouds()
    frame = settle(queries, keys, "monge")
    zeros = torch.zeros(laws.D, dtype=torch.float64)
    for b in range(laws.B):
        for h in range(laws.H):
            source, target = (Gaussian(zeros, c.covariance[b, h]) for c in (keys, queries))
            T = frame.key_basis[b, h]
            laws.close(T.mT @ T, monge_map(source, target).matrix, times=1e3)
    T, inverse = frame.key_basis, frame.query_basis
    laws.close(inverse @ T.mT, torch.eye(laws.D).double().expand_as(T), times=10)
    both = T @ keys.covariance @ T.mT, inverse @ queries.covariance @ inverse.mT
    laws.close(*both, times=1e3)
    laws.close(both[0], torch.diag_embed(both[0].diagonal(dim1=-2, dim2=-1)), times=1e3)


def test_moments_count_real_points_only():
    mask = laws.some_mask(31)
    queries, keys = clouds(mask=mask)
    for cloud in (queries, keys):
        for b in range(laws.B):
            points = cloud.scale * cloud.points[b][:, mask[b]]
            laws.close(cloud.mean[b, :, 0], points.mean(1))
            centred = points - points.mean(1, keepdim=True)
            laws.close(cloud.covariance[b], centred.mT @ centred / points.shape[1])


def test_long_clouds_are_summed_in_parts():
    points = torch.randn(1, 2, 2053, 3, generator=torch.Generator().manual_seed(0)) + 5
    mask = torch.arange(2053).expand(1, -1) % 7 > 0
    got = Cloud(points, mask, 1.0).covariance[0, 1]
    wanted = torch.cov(points[0, 1, mask[0]].double().T, correction=0)
    laws.close(got, wanted)


@pytest.mark.parametrize(
    "points", [torch.zeros(1, 1, 5, 3), torch.full((1, 1, 5, 3), 7.3), torch.ones(1, 1, 1, 3)]
)
def test_clouds_without_spread_have_a_frame(points):
    """Constant keys, zero keys, one key: T exists, and does not blow rounding up."""
    spread = torch.randn(1, 1, points.shape[2], 3, generator=torch.Generator().manual_seed(1))
    for queries, keys in ((spread, points), (points, spread), (points, points)):
        frame = settle(Cloud(queries, None, 1.0), Cloud(keys, None, 1.0), "monge")
        key, weights = frame.keys(keys)
        assert key.isfinite().all()
        assert weights.isfinite().all()
        assert key.norm(dim=-1).max() < 10


def test_nothing_is_measured_where_nothing_is_asked():
    assert vars(settle(*clouds(), "none")) == vars(Frame())
