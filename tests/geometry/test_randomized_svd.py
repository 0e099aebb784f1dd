"""Randomized factorisations against the full decomposition and the published bounds."""

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
import torch

import reference_projection as reference
from unabridged.geometry.matrix_products import RowBlocks
from unabridged.geometry.nystrom import RowSketch, nystrom
from unabridged.geometry.randomized_svd import error_bound, randomized_svd, range_finder

ROWS, COLUMNS = 83, 47
SLOW_SPECTRUM = 1 / np.arange(1, COLUMNS + 1)


@pytest.fixture(name="M")
def slowly_falling_matrix():
    return reference.matrix_with_spectrum(ROWS, COLUMNS, SLOW_SPECTRUM, seed=0)


def residual(M, svd):
    return float(np.linalg.norm(M - svd.matrix()))


@pytest.mark.parametrize("turn", ["tall", "wide"])
@pytest.mark.parametrize("method", ["power", "krylov"])
def test_factors_are_orthonormal_and_values_descend(M, turn, method):
    M = M if turn == "tall" else M.T
    svd = randomized_svd(M, 7, method=method)
    np.testing.assert_allclose(svd.left.T @ svd.left, np.eye(7), atol=1e-12)
    np.testing.assert_allclose(svd.right @ svd.right.T, np.eye(7), atol=1e-12)
    assert (np.diff(svd.values) <= 0).all()
    assert (svd.values >= 0).all()


@pytest.mark.parametrize("turn", ["tall", "wide"])
@pytest.mark.parametrize("method", ["power", "krylov"])
def test_error_is_within_one_percent_of_the_best(M, turn, method):
    M = M if turn == "tall" else M.T
    svd = randomized_svd(M, 7, oversampling=10, method=method)
    best = reference.best_error(M, 7)
    assert best * (1 - 1e-12) <= residual(M, svd) <= 1.01 * best


def test_full_rank_is_the_exact_decomposition(M):
    svd = randomized_svd(M, COLUMNS)
    np.testing.assert_allclose(svd.values, SLOW_SPECTRUM, rtol=1e-10)
    np.testing.assert_allclose(svd.matrix(), M, atol=1e-12)


def test_exact_low_rank_is_recovered():
    M = reference.matrix_with_spectrum(ROWS, COLUMNS, [5, 3, 2], seed=1)
    svd = randomized_svd(M, 5)
    np.testing.assert_allclose(svd.values, [5, 3, 2, 0, 0], atol=1e-12)
    np.testing.assert_allclose(svd.matrix(), M, atol=1e-12)
    np.testing.assert_allclose(svd.left.T @ svd.left, np.eye(5), atol=1e-10)


def test_zero_matrix_has_zero_values():
    svd = randomized_svd(np.zeros((7, 5)), 2)
    np.testing.assert_array_equal(svd.values, 0)
    assert np.isfinite(svd.left).all()


def test_float32_resolves_small_directions_beside_large_ones():
    # Without the Ritz rotations between rounds the last values are off by 2e-3.
    values = np.concatenate([10.0 ** -np.arange(0, 5, 0.5), np.full(42, 1e-6)])
    M = reference.matrix_with_spectrum(200, 61, values, seed=2).astype(np.float32)
    svd = randomized_svd(M, 10, oversampling=2, method="power")
    assert svd.left.dtype == np.float32
    np.testing.assert_allclose(svd.values, values[:10], rtol=3e-4)


def mean_errors(M, size, power, seeds):
    errors = []
    for seed in range(seeds):
        Q = range_finder(M, size, power=power, seed=seed)
        difference = M - Q @ (Q.T @ M)
        errors.append((np.linalg.norm(difference) ** 2, np.linalg.norm(difference, 2)))
    return np.mean(errors, axis=0)


def test_range_finder_obeys_the_frobenius_and_spectral_bounds(M):
    k, p = 8, 6
    square, spectral = mean_errors(M, k + p, 0, seeds=60)
    tail = reference.best_error(M, k)
    assert np.sqrt(square) <= np.sqrt(1 + k / (p - 1)) * tail  # Halko et al. 10.5
    wanted = (1 + np.sqrt(k / (p - 1))) * SLOW_SPECTRUM[k] + np.e * np.sqrt(k + p) / p * tail
    assert spectral <= wanted  # Halko et al. 10.6
    assert np.sqrt(square) > 1.02 * reference.best_error(M, k + p)


def test_power_iteration_obeys_its_bound_and_helps(M):
    k, p, q = 8, 6, 2
    _, spectral = mean_errors(M, k + p, q, seeds=40)
    powers = SLOW_SPECTRUM ** (2 * q + 1)
    tail = np.sqrt((powers[k:] ** 2).sum())
    wanted = (1 + np.sqrt(k / (p - 1))) * powers[k] + np.e * np.sqrt(k + p) / p * tail
    assert spectral <= wanted ** (1 / (2 * q + 1))  # Halko et al. 10.10
    assert spectral < 0.9 * mean_errors(M, k + p, 0, seeds=40)[1]


def test_krylov_beats_power_on_a_flat_spectrum():
    M = reference.matrix_with_spectrum(150, 101, np.linspace(1.2, 1.0, 101), seed=3)
    errors = [
        np.mean(
            [residual(M, randomized_svd(M, 5, oversampling=5, method=m, seed=s)) for s in range(5)]
        )
        for m in ("power", "krylov")
    ]
    best = reference.best_error(M, 5)
    assert errors[1] - best < 0.6 * (errors[0] - best)


def test_raw_gaussian_right_factor_has_relative_error_above_one(M):
    # |M - M Q Q^T|_F^2 = ((d + 1)/k) |M|_F^2 on average for Q of N(0, 1/k) entries.
    k = 9
    rng = np.random.default_rng(0)
    squares = []
    for _ in range(400):
        Q = rng.standard_normal((COLUMNS, k)) / np.sqrt(k)
        squares.append(np.linalg.norm(M - M @ Q @ Q.T) ** 2)
    wanted = (COLUMNS + 1) / k * np.linalg.norm(M) ** 2
    assert np.mean(squares) == pytest.approx(wanted, rel=0.1)
    assert residual(M, randomized_svd(M, k)) ** 2 < 0.02 * wanted


def test_orthonormal_right_factor_loses_the_dropped_share(M):
    k = 9
    rng = np.random.default_rng(0)
    squares = []
    for _ in range(400):
        Q = np.linalg.qr(rng.standard_normal((COLUMNS, k)))[0]
        squares.append(np.linalg.norm(M - M @ Q @ Q.T) ** 2)
    assert np.mean(squares) == pytest.approx((1 - k / COLUMNS) * np.linalg.norm(M) ** 2, rel=0.03)


def test_sources_of_the_same_matrix_agree(M):
    M = np.where(np.abs(M) < 0.01, 0, M)
    wanted = randomized_svd(M, 5)
    blocks = RowBlocks(M.shape, lambda: (M[i : i + 19] for i in range(0, ROWS, 19)))
    for source in (
        torch.from_numpy(M),
        scipy.sparse.csr_array(M),
        scipy.sparse.coo_matrix(M),
        scipy.sparse.linalg.aslinearoperator(M),
        blocks,
    ):
        got = randomized_svd(source, 5)
        np.testing.assert_allclose(got.values, wanted.values, rtol=1e-10)
        np.testing.assert_allclose(got.left, wanted.left, atol=1e-6)


def test_equal_seeds_give_equal_bits_and_signs_follow_the_rule(M):
    first, second = randomized_svd(M, 5, seed=3), randomized_svd(M, 5, seed=3)
    np.testing.assert_array_equal(first.left, second.left)
    other = randomized_svd(M, 5, seed=4, power=6)
    np.testing.assert_allclose(other.right[:3], randomized_svd(M, 5, power=6).right[:3], atol=1e-4)
    largest = first.right[np.arange(5), np.abs(first.right).argmax(axis=1)]
    assert (largest > 0).all()


def test_error_bound_holds_and_is_of_the_right_size(M):
    svd = randomized_svd(M, 6)
    exact = M - svd.matrix()
    bounds = [error_bound(M, svd, seed=seed) for seed in range(1, 101)]
    spectral = np.linalg.norm(exact, 2)
    assert all(spectral <= bound.spectral <= 60 * spectral for bound in bounds)
    assert all(np.linalg.norm(exact) <= bound.frobenius_upper for bound in bounds)
    squares = [bound.frobenius**2 for bound in bounds]
    assert np.mean(squares) == pytest.approx(np.linalg.norm(exact) ** 2, rel=0.1)


def test_frobenius_bound_of_a_rank_one_residual_fails_at_the_stated_rate():
    M = np.outer(np.ones(7), np.ones(5))
    svd = randomized_svd(np.zeros((7, 5)), 1)
    failed = sum(
        error_bound(M, svd, probes=1, seed=seed).frobenius_upper < np.linalg.norm(M)
        for seed in range(1, 1001)
    )
    assert 70 <= failed <= 135  # probes=1: one in ten


def test_error_bound_is_not_fooled_by_a_factorisation_of_something_else(M):
    svd = randomized_svd(M, 6)
    assert error_bound(2 * M, svd).spectral > np.linalg.norm(M, 2)


@pytest.fixture(name="A")
def psd_matrix():
    V = np.linalg.qr(np.random.default_rng(5).standard_normal((COLUMNS, COLUMNS)))[0]
    return (V * SLOW_SPECTRUM) @ V.T


def test_nystrom_is_within_a_quarter_of_the_best_in_one_pass(A):
    k = 7
    errors = [np.linalg.norm(A - nystrom(A, k, seed=s).matrix()) for s in range(10)]
    best = np.sqrt((SLOW_SPECTRUM[k:] ** 2).sum())
    assert best * (1 - 1e-9) <= np.mean(errors) <= 1.25 * best
    small = [np.linalg.norm(A - nystrom(A, k, sketch=k + 2, seed=s).matrix()) for s in range(10)]
    assert np.mean(small) > 1.4 * best


def test_nystrom_recovers_low_rank_and_never_exceeds_the_matrix(A):
    low = A[:, :5] @ A[:5]
    low = low @ low.T
    np.testing.assert_allclose(nystrom(low, 5).matrix(), low, atol=1e-10)
    # The Nystrom approximation lies below A in the Loewner order.
    approximation = nystrom(A, 15, sketch=15).matrix()
    assert np.linalg.eigvalsh(A - approximation)[0] > -1e-10


def test_nystrom_takes_float32_sparse_and_operators(A):
    wanted = nystrom(A, 4).values
    for source, tolerance in (
        (A.astype(np.float32), 1e-5),
        (scipy.sparse.csr_array(A), 1e-9),
        (scipy.sparse.linalg.aslinearoperator(A), 1e-9),
    ):
        np.testing.assert_allclose(nystrom(source, 4).values, wanted, rtol=tolerance)


def test_nystrom_of_zero_is_zero():
    np.testing.assert_allclose(nystrom(np.zeros((5, 5)), 2).values, 0, atol=1e-100)


@pytest.mark.parametrize(
    ("A", "message"),
    [
        (np.ones((3, 4)), r"got a matrix of shape \(3, 4\); wanted a square"),
        (np.triu(np.ones((5, 5))), "not symmetric; wanted A = A"),
        (np.diag([3.0, 1.0, -2.0]), "not positive semidefinite"),
        (np.diag([1.0, np.nan]), "got NaN or infinity in the matrix"),
    ],
)
def test_nystrom_refuses_what_it_cannot_do(A, message):
    with pytest.raises(ValueError, match=message):
        nystrom(A, 1)


def test_row_sketch_is_within_a_quarter_of_the_best_in_one_pass(M):
    k = 7
    errors = []
    for seed in range(10):
        sketch = RowSketch(COLUMNS, k, seed=seed)
        for start in range(0, ROWS, 11):
            sketch.update(M[start : start + 11])
        errors.append(residual(M, sketch.svd()))
    best = reference.best_error(M, k)
    assert best <= np.mean(errors) <= 1.25 * best


def test_row_sketch_does_not_depend_on_the_blocks(M):
    results = []
    for size in (1, 11, ROWS):
        sketch = RowSketch(COLUMNS, 7)
        for start in range(0, ROWS, size):
            sketch.update(M[start : start + size])
        results.append(sketch.svd().matrix())
    np.testing.assert_allclose(results[0], results[1], atol=1e-11)
    np.testing.assert_allclose(results[0], results[2], atol=1e-11)


def test_row_sketch_recovers_low_rank_rows():
    M = reference.matrix_with_spectrum(ROWS, COLUMNS, [5, 3, 2], seed=1)
    sketch = RowSketch(COLUMNS, 3)
    sketch.update(M.astype(np.float32))
    np.testing.assert_allclose(sketch.svd().matrix(), M, atol=1e-5)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: randomized_svd(np.ones(3), 1), ValueError, "wanted two dimensions"),
        (lambda: randomized_svd(np.empty((0, 3)), 1), ValueError, "wanted at least one row"),
        (
            lambda: randomized_svd(np.ones((3, 2)), 3),
            ValueError,
            "got rank=3; wanted between 1 and 2",
        ),
        (lambda: randomized_svd(np.ones((3, 2)), 0), ValueError, "got rank=0"),
        (lambda: randomized_svd(np.ones((3, 2)), 1.0), TypeError, "wanted an integer"),
        (lambda: randomized_svd(np.ones((3, 2)), 1, power=-1), ValueError, "got power=-1"),
        (lambda: randomized_svd(np.ones((3, 2)), 1, method="qr"), ValueError, "wanted 'power' or"),
        (lambda: randomized_svd(np.full((3, 2), np.inf), 1), ValueError, "NaN or infinity"),
        (lambda: randomized_svd(np.ones((3, 2), complex), 1), TypeError, "wanted real numbers"),
        (lambda: range_finder(np.ones((3, 2)), 3), ValueError, "got size=3"),
        (
            lambda: randomized_svd(RowBlocks((4, 2), lambda: [np.ones((3, 2))]), 1),
            ValueError,
            "got 3 rows in a pass over the blocks; wanted 4",
        ),
        (
            lambda: error_bound(np.ones((3, 3)), randomized_svd(np.ones((3, 2)), 1)),
            ValueError,
            "wanted equal shapes",
        ),
        (lambda: RowSketch(3, 4), ValueError, "got rank=4; wanted between 1 and 3"),
        (lambda: RowSketch(3, 1).update(np.ones((2, 4))), ValueError, "got 4 columns; wanted 3"),
        (lambda: RowSketch(3, 1).update(np.full((2, 3), np.nan)), ValueError, "NaN or infinity"),
        (lambda: RowSketch(3, 1).svd(), ValueError, "got 0 rows; wanted at least rank=1"),
    ],
)
def test_bad_arguments_are_refused_in_one_sentence(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_one_row_one_column_and_integers_are_fine():
    assert randomized_svd(np.array([[3, 4]]), 1).values == pytest.approx([5])
    assert randomized_svd(np.array([[3], [4]]), 1).values == pytest.approx([5])
