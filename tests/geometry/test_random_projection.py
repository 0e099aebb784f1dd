"""Laws of random projections: exact distributions, variances, and what a projection keeps."""

import numpy as np
import pytest
import scipy.sparse
import scipy.stats
import torch

import reference_projection as reference
from unabridged.geometry.random_projection import (
    RandomProjection,
    haar_rows,
    inner_product_variance,
)

KINDS = ("gaussian", "rademacher", "sparse", "hadamard", "orthogonal")
D, N = 37, 11


def draws(kind, input_dimension, dimension, count, **settings):
    return (
        RandomProjection(kind, input_dimension, dimension, seed, **settings)
        for seed in range(count)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_transform_is_the_product_with_the_matrix(kind):
    X = np.random.default_rng(1).standard_normal((23, D))
    projection = RandomProjection(kind, D, N, seed=5)
    assert projection.matrix.shape == (N, D)
    np.testing.assert_allclose(projection.transform(X), X @ projection.matrix.T, atol=1e-13)


@pytest.mark.parametrize("kind", KINDS)
def test_equal_seeds_give_equal_bits_and_other_seeds_do_not(kind):
    X = np.random.default_rng(1).standard_normal((5, D))
    first, second, other = (RandomProjection(kind, D, N, seed).transform(X) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, second)
    assert np.abs(first - other).max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_mean_squared_length_is_kept_for_spikes_and_for_flat_vectors(kind):
    spike, flat = np.eye(D)[0], np.full(D, D**-0.5)
    squares = np.array(
        [(p.transform(np.stack([spike, flat])) ** 2).sum(axis=1) for p in draws(kind, D, N, 3000)]
    )
    error = squares.std(axis=0) / np.sqrt(len(squares)) + 1e-12
    assert (np.abs(squares.mean(axis=0) - 1) < 4 * error).all()


def test_gaussian_lengths_are_chi_square_whatever_the_vector():
    spike = np.eye(D)[:1]
    scaled = [N * (p.transform(spike) ** 2).sum() for p in draws("gaussian", D, N, 4000)]
    assert scipy.stats.kstest(scaled, scipy.stats.chi2(N).cdf).pvalue > 1e-3


def test_rademacher_lengths_are_not_chi_square():
    spike = np.eye(D)[:1]
    scaled = [N * (p.transform(spike) ** 2).sum() for p in draws("rademacher", D, N, 200)]
    assert scipy.stats.kstest(scaled, scipy.stats.chi2(N).cdf).pvalue < 1e-6


def test_gaussian_inner_products_have_the_stated_variance():
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((2, D))
    y += x
    products = np.array(
        [
            np.prod(p.transform(np.stack([x, y])), axis=0).sum()
            for p in draws("gaussian", D, N, 6000)
        ]
    )
    wanted = inner_product_variance(x, y, N)
    assert abs(products.mean() - x @ y) < 4 * np.sqrt(wanted / len(products))
    assert products.var() == pytest.approx(wanted, rel=0.12)
    # The variance without the second term is well outside the tolerance.
    assert abs(products.var() - (x @ x) * (y @ y) / N) > 0.2 * wanted


def test_sparse_variance_grows_on_spikes_of_two_and_not_on_flat_vectors():
    # Var |Ax|^2 = 2 (1/n) (|x|^4 - sum x_i^4) for s of n places drawn uniformly, any s.
    two = np.zeros(D)
    two[:2] = 0.5**0.5
    flat = np.full(D, D**-0.5)
    X = np.stack([np.eye(D)[0], two, flat])
    squares = np.array(
        [(p.transform(X) ** 2).sum(axis=1) for p in draws("sparse", D, N, 6000, nonzeros=3)]
    )
    wanted = 2 / N * (1 - (X**4).sum(axis=1))
    assert squares[:, 0] == pytest.approx(1, abs=1e-12)
    assert squares.var(axis=0) == pytest.approx(wanted, rel=0.12, abs=1e-20)


def test_count_sketch_of_two_spikes_has_heavier_tails_than_a_fuller_column():
    two = np.zeros((1, D))
    two[0, :2] = 0.5**0.5
    worst = [
        np.mean(
            [
                abs((p.transform(two) ** 2).sum() - 1) > 0.9
                for p in draws("sparse", D, N, 2000, nonzeros=s)
            ]
        )
        for s in (1, 7)
    ]
    assert worst[0] == pytest.approx(1 / N, abs=0.03)
    assert worst[1] < 0.02


def test_sparse_columns_have_exactly_the_stated_nonzeros():
    matrix = RandomProjection("sparse", D, N, nonzeros=3).matrix
    assert ((matrix != 0).sum(axis=0) == 3).all()
    np.testing.assert_allclose(np.abs(matrix[matrix != 0]), 3**-0.5)


def test_orthogonal_variance_is_smaller_by_one_minus_the_share_of_dimensions():
    x = np.eye(D)[:1]
    n = 29
    squares = [(p.transform(x) ** 2).sum() for p in draws("orthogonal", D, n, 4000)]
    # |Ax|^2 = (d/n) Beta(n/2, (d-n)/2).
    law = scipy.stats.beta(n / 2, (D - n) / 2, scale=D / n)
    assert scipy.stats.kstest(squares, law.cdf).pvalue > 1e-3
    assert law.var() == pytest.approx(2 / n * (1 - n / D) * D / (D + 2))


def test_orthogonal_at_full_dimension_is_an_isometry():
    X = np.random.default_rng(3).standard_normal((7, D))
    Y = RandomProjection("orthogonal", D, D).transform(X)
    np.testing.assert_allclose(Y @ Y.T, X @ X.T, atol=1e-12)


def test_haar_rows_need_the_sign_fix():
    # Entry (0, 0) is symmetric about zero; bare Householder QR makes its sign constant.
    signs = [haar_rows(3, 3, seed)[0, 0] > 0 for seed in range(400)]
    assert 140 < sum(signs) < 260


def test_rows_of_one_seed_are_nested():
    for kind in ("gaussian", "orthogonal"):
        small, large = (RandomProjection(kind, D, n, 7).matrix * np.sqrt(n) for n in (5, N))
        np.testing.assert_allclose(small, large[:5], atol=1e-12)


def test_data_drawn_from_the_same_seed_is_not_the_matrix():
    data = np.random.default_rng(0).standard_normal((N, D))
    matrix = RandomProjection("gaussian", D, N, seed=0).matrix * np.sqrt(N)
    assert np.abs(data - matrix).max() > 0.5


@pytest.mark.parametrize(("input_dimension", "dimension"), [(1, 1), (5, 3), (64, 64), (300, 41)])
def test_hadamard_matches_the_full_matrix(input_dimension, dimension):
    projection = RandomProjection("hadamard", input_dimension, dimension, seed=2)
    signs, chosen = projection._hadamard_draw
    wanted = reference.hadamard_projection(signs, chosen, len(signs), input_dimension, dimension)
    X = np.random.default_rng(0).standard_normal((13, input_dimension))
    np.testing.assert_allclose(projection.matrix, wanted, atol=1e-14)
    np.testing.assert_allclose(projection.transform(X), X @ wanted.T, atol=1e-12)


def test_hadamard_at_full_width_is_an_isometry():
    X = np.random.default_rng(3).standard_normal((5, 128))
    Y = RandomProjection("hadamard", 128, 128).transform(X)
    np.testing.assert_allclose((Y**2).sum(axis=1), (X**2).sum(axis=1))


def test_hadamard_over_many_blocks_of_rows_equals_one_block():
    X = np.random.default_rng(3).standard_normal((700, 2048)).astype(np.float32)
    projection = RandomProjection("hadamard", 2048, 17)
    np.testing.assert_allclose(
        projection.transform(X)[600:], projection.transform(X[600:]), atol=1e-5
    )


@pytest.mark.parametrize("kind", KINDS)
def test_sparse_input_gives_what_dense_input_gives(kind):
    X = scipy.sparse.random(19, D, density=0.2, random_state=0, format="coo")
    projection = RandomProjection(kind, D, N)
    for dtype, tolerance in ((np.float64, 1e-13), (np.float32, 1e-5)):
        got = projection.transform(X.astype(dtype))
        assert got.dtype == dtype
        np.testing.assert_allclose(got, projection.transform(X.toarray()), atol=tolerance)


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [
        (torch.float64, 1e-12),
        (torch.float32, 1e-5),
        (torch.bfloat16, 0.05),
        (torch.float16, 0.01),
    ],
)
@pytest.mark.parametrize("kind", ["gaussian", "hadamard"])
def test_tensors_keep_their_dtype(kind, dtype, tolerance):
    X = torch.randn(7, D, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    projection = RandomProjection(kind, D, N)
    got = projection.transform(X.to(dtype))
    assert got.dtype == dtype
    torch.testing.assert_close(
        got.double(), projection.transform(X.to(dtype).double()), atol=tolerance, rtol=tolerance
    )


def test_arrays_keep_half_precision_and_integers_become_float64():
    projection = RandomProjection("gaussian", 3, 2)
    assert projection.transform(np.ones((2, 3), np.float16)).dtype == np.float16
    assert projection.transform([[1, 2, 3]]).dtype == np.float64
    assert projection.transform(torch.ones(1, 3, dtype=torch.int64)).dtype == torch.float64


@pytest.mark.parametrize("kind", KINDS)
def test_empty_batch_and_one_dimension_are_fine(kind):
    assert RandomProjection(kind, D, N).transform(np.empty((0, D))).shape == (0, N)
    assert RandomProjection(kind, 1, 1).transform(np.ones((2, 1))).shape == (2, 1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinity_are_refused(kind, bad):
    X = np.zeros((3, D))
    X[1, 2] = bad
    with pytest.raises(ValueError, match="got NaN or infinity in the rows; wanted finite"):
        RandomProjection(kind, D, N).transform(X)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("fancy", 3, 2), "got kind='fancy'; wanted one of gaussian"),
        (("gaussian", 0, 2), "got input_dimension=0; wanted at least 1"),
        (("gaussian", 3, 0), "got dimension=0; wanted at least 1"),
        (("orthogonal", 3, 4), "got dimension=4; wanted between 1 and 3"),
        (("hadamard", 3, 5), "got dimension=5; wanted between 1 and 4"),
        (("gaussian", 3, 2, -1), "got seed=-1; wanted at least 0"),
        (("gaussian", 3, 2, 0, 1), "got nonzeros=1 with kind='gaussian'"),
        (("sparse", 3, 2, 0, 3), "got nonzeros=3; wanted between 1 and 2"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        RandomProjection(*settings)


def test_counts_that_are_no_integers_are_refused():
    with pytest.raises(TypeError, match=r"got dimension=2\.5; wanted an integer"):
        RandomProjection("gaussian", 3, 2.5)


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (np.ones(3), ValueError, r"got shape \(3,\); wanted two dimensions"),
        (np.ones((2, 4)), ValueError, "got 4 columns; wanted 3"),
        (torch.ones(2, 4), ValueError, "got 4 columns; wanted 3"),
        (scipy.sparse.eye_array(4), ValueError, "got 4 columns; wanted 3"),
        (np.ones((2, 3), complex), TypeError, "got dtype complex128; wanted real numbers"),
        ([["a", "b", "c"]], TypeError, "wanted real numbers"),
    ],
)
def test_rows_of_the_wrong_kind_are_refused(X, error, message):
    with pytest.raises(error, match=message):
        RandomProjection("gaussian", 3, 2).transform(X)
