"""The type `Gaussian`: constructors, shapes, and the sentence for every kind of bad input."""

import numpy as np
import pytest
import torch
from sklearn.covariance import ledoit_wolf
from torch.distributions import (
    Independent,
    LowRankMultivariateNormal,
    MultivariateNormal,
    Normal,
    Uniform,
)

from unabridged.geometry.gaussian import Gaussian, as_gaussian
from unabridged.geometry.moments import Moments
from unabridged.geometry.shrinkage import oas

F64 = torch.float64


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def test_batch_shapes_broadcast_like_those_of_torch_distributions():
    mean, covariance = draw(3, 1, 7), torch.eye(7, dtype=F64).expand(5, 7, 7)
    ours, theirs = Gaussian(mean, covariance), MultivariateNormal(mean, covariance)
    assert ours.batch_shape == theirs.batch_shape == (3, 5)
    assert ours.event_shape == theirs.event_shape == (7,)
    torch.testing.assert_close(ours.covariance, theirs.covariance_matrix)
    torch.testing.assert_close(ours[1, 2].mean, mean[1, 0])
    assert ours[:, :2].batch_shape == (3, 2)


def test_the_three_structures_give_the_covariance_they_say():
    factor, variances = draw(5, 7, 2), draw(5, 7).square()
    diagonal = Gaussian.diagonal(draw(5, 7), variances)
    low_rank = Gaussian.low_rank(draw(5, 7), factor, variances)
    torch.testing.assert_close(diagonal.covariance, torch.diag_embed(variances))
    wanted = factor @ factor.mT + torch.diag_embed(variances)
    torch.testing.assert_close(low_rank.covariance, wanted)
    torch.testing.assert_close(low_rank.variance, wanted.diagonal(dim1=-2, dim2=-1))


def test_low_rank_remembers_what_rounding_its_matrix_loses():
    structure = Gaussian.low_rank(draw(7), draw(7, 2), draw(7).square()).structure
    tail = structure.tail()
    assert 0 < tail.abs().max() < 1e-15 * structure.dense().abs().max()


@pytest.mark.parametrize("n", [3, 11])
def test_from_samples_is_mean_and_maximum_likelihood_covariance(n):
    samples = draw(2, n, 7)
    gaussian = Gaussian.from_samples(samples)
    torch.testing.assert_close(gaussian.mean, samples.mean(1))
    for index in range(2):
        wanted = torch.cov(samples[index].mT, correction=0)
        torch.testing.assert_close(gaussian[index].covariance, wanted)


@pytest.mark.parametrize("n", [5, 41])
def test_shrinkage_matches_scikit_learn_and_the_moments(n):
    samples = draw(n, 7) @ draw(7, 7, seed=1)
    moments = Moments.of(samples)
    shrunk = Gaussian.from_samples(samples, shrinkage="ledoit_wolf")
    wanted = torch.from_numpy(ledoit_wolf(samples.numpy())[0])
    torch.testing.assert_close(shrunk.covariance, wanted)
    torch.testing.assert_close(
        Gaussian.from_moments(moments, shrinkage="ledoit_wolf").covariance, wanted
    )
    rho, plain = oas(moments), Gaussian.from_moments(moments).covariance
    wanted = (1 - rho) * plain + rho * plain.trace() / 7 * torch.eye(7, dtype=F64)
    torch.testing.assert_close(Gaussian.from_samples(samples, shrinkage="oas").covariance, wanted)


def test_moments_and_samples_agree():
    samples = draw(23, 7) + 1000
    ours = Gaussian.from_moments(Moments.of(samples))
    torch.testing.assert_close(ours.covariance, Gaussian.from_samples(samples).covariance)
    torch.testing.assert_close(ours.mean, samples.mean(0))


def test_one_sample_constant_columns_and_duplicate_rows_are_no_error():
    point = Gaussian.from_samples(draw(1, 7))
    assert point.variance.abs().max() == 0
    constant = torch.cat([draw(5, 3), torch.ones(5, 1, dtype=F64)], dim=1)
    assert Gaussian.from_samples(constant).variance[-1] == 0
    twice = torch.cat([constant, constant])
    torch.testing.assert_close(
        Gaussian.from_samples(twice).covariance, Gaussian.from_samples(constant).covariance
    )
    assert Gaussian.from_samples(draw(1, 1)).dimension == 1
    flat = Gaussian.from_samples(torch.ones(3, 5, dtype=F64), shrinkage="oas")
    assert flat.variance.abs().max() == 0


def test_distributions_of_torch_are_gaussians_and_back():
    mean, root = draw(5, 7), draw(5, 7, 7).tril() + 7 * torch.eye(7, dtype=F64)
    full = MultivariateNormal(mean, root @ root.mT)
    from_root = MultivariateNormal(mean, scale_tril=root)
    thin = LowRankMultivariateNormal(mean, draw(5, 7, 2), draw(5, 7).square() + 1)
    coordinates = Independent(Normal(mean, draw(5, 7).abs() + 1), 1)
    for distribution in (full, from_root, thin, coordinates):
        gaussian = as_gaussian(distribution, caller="test", name="p")
        variance = gaussian.variance
        torch.testing.assert_close(variance, distribution.variance)
        torch.testing.assert_close(gaussian.to_distribution().variance, variance)


def test_dtype_and_empty_batches_are_kept():
    assert Gaussian(torch.zeros(3), torch.eye(3)).dtype == torch.float32
    assert Gaussian(torch.zeros(3), torch.eye(3)).to(F64).dtype == F64
    empty = Gaussian(torch.zeros(0, 3), torch.eye(3))
    assert len(empty) == 0
    assert empty.covariance.shape == (0, 3, 3)
    assert Gaussian(np.zeros(3), np.eye(3)).dtype == F64


def test_a_singular_covariance_rounded_to_float32_is_accepted():
    rows = draw(5, 31).float()
    centred = rows - rows.mean(0)
    assert Gaussian(torch.zeros(31), centred.mT @ centred / 5).dimension == 31


EYE = torch.eye(3)
NAN = torch.tensor([0.0, float("nan"), 0.0])

BAD = {
    "integers": (lambda: Gaussian(torch.zeros(3).long(), EYE), TypeError, "holds int64 values"),
    "dtypes": (lambda: Gaussian(torch.zeros(3).double(), EYE), TypeError, "both must agree"),
    "nan": (lambda: Gaussian(NAN, EYE), ValueError, "mean holds NaN"),
    "infinity": (lambda: Gaussian(torch.zeros(3), EYE / 0), ValueError, "covariance holds NaN"),
    "scalar mean": (lambda: Gaussian(torch.tensor(0.0), EYE), ValueError, r"must be \(\.\.\., d\)"),
    "no dimensions": (lambda: Gaussian(torch.zeros(0), EYE), ValueError, "d at least 1"),
    "shape": (lambda: Gaussian(torch.zeros(5), EYE), ValueError, r"shape \(3, 3\) and mean \(5,\)"),
    "vector": (lambda: Gaussian(torch.zeros(3), torch.ones(3)), ValueError, r"\(\.\.\., d, d\)"),
    "batches": (
        lambda: Gaussian(torch.zeros(2, 3), EYE.expand(5, 3, 3)),
        ValueError,
        "batch shapes that broadcast",
    ),
    "asymmetric": (
        lambda: Gaussian(torch.zeros(3), EYE + EYE.roll(1, 0)),
        ValueError,
        "differs from its transpose by 1",
    ),
    "indefinite": (
        lambda: Gaussian(torch.zeros(3), torch.diag(torch.tensor([1.0, 2.0, -1.0]))),
        ValueError,
        "eigenvalue -1 beside the largest 2",
    ),
    "negative definite": (lambda: Gaussian(torch.zeros(3), -EYE), ValueError, "eigenvalue -1"),
    "negative variance": (
        lambda: Gaussian.diagonal(torch.zeros(3), -torch.ones(3)),
        ValueError,
        "variances has the value -1",
    ),
    "factor": (
        lambda: Gaussian.low_rank(torch.zeros(3), torch.ones(5, 2), torch.ones(3)),
        ValueError,
        r"factor has shape \(5, 2\)",
    ),
    "no samples": (lambda: Gaussian.from_samples(torch.zeros(0, 3)), ValueError, "at least 1"),
    "one row": (lambda: Gaussian.from_samples(torch.zeros(3)), ValueError, "one row a sample"),
    "shrinkage": (
        lambda: Gaussian.from_samples(torch.zeros(5, 3), shrinkage="some"),
        ValueError,
        "one of none, ledoit_wolf, oas",
    ),
    "empty moments": (
        lambda: Gaussian.from_moments(Moments.empty(3)),
        ValueError,
        "at least one row",
    ),
    "distribution": (
        lambda: as_gaussian(Uniform(0.0, 1.0), caller="kl", name="p"),
        TypeError,
        "got a Uniform",
    ),
    "type": (lambda: as_gaussian(3.0, caller="kl", name="p"), TypeError, "kl: p is a float"),
    "len of one": (lambda: len(Gaussian(torch.zeros(3), EYE)), TypeError, "batch axis"),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", BAD)
def test_bad_input_says_what_got_wanted_do_in_one_sentence(name):
    call, kind, words = BAD[name]
    with pytest.raises(kind, match=words) as caught:
        call()
    message = str(caught.value)
    assert message.endswith(".")
    assert "\n" not in message
    assert ":" in message.split(" ")[0]
