import warnings

import numpy as np
import pytest
import torch

import reference_whitening as reference
from unabridged.geometry import psd

D = 7


def covariance(condition=1e3, d=D, seed=0):
    rng = np.random.default_rng(seed)
    q = np.linalg.qr(rng.standard_normal((d, d)))[0]
    S = (q * np.geomspace(1, 1 / condition, d)) @ q.T
    return (S + S.T) / 2


def singular(rank=4):
    factor = np.random.default_rng(1).standard_normal((D, rank))
    return factor @ factor.T


def test_eigh_rebuilds_the_matrix():
    S = covariance()
    spectrum = psd.eigh(S)
    np.testing.assert_allclose(spectrum.power(1.0), S, atol=1e-15)
    np.testing.assert_allclose(spectrum.vectors.T @ spectrum.vectors, np.eye(D), atol=1e-14)


def test_eigenvalues_descend_and_the_largest_component_of_a_vector_is_positive():
    spectrum = psd.eigh(covariance(seed=3))
    assert (np.diff(spectrum.values) < 0).all()
    pivots = np.abs(spectrum.vectors).argmax(axis=0)
    assert (spectrum.vectors[pivots, np.arange(D)] > 0).all()


@pytest.mark.parametrize("condition", [1e1, 1e6, 1e10])
def test_sqrt_matches_fifty_digits(condition):
    S = covariance(condition)
    np.testing.assert_allclose(psd.sqrt(S), reference.mpmath_sqrt(S), atol=1e-10)
    np.testing.assert_allclose(psd.sqrt(S) @ psd.sqrt(S), S, atol=1e-14)


def test_logdet_matches_fifty_digits():
    S = covariance(1e6)
    assert psd.logdet(S) == pytest.approx(reference.mpmath_logdet(S), abs=1e-9)


def test_inverse_sqrt_whitens():
    S = covariance()
    W = psd.inverse_sqrt(S)
    np.testing.assert_allclose(W @ S @ W, np.eye(D), atol=1e-12)


def test_inverse_sqrt_of_a_singular_matrix_gives_the_projector_onto_its_range():
    S = singular(4)
    W = psd.inverse_sqrt(S)
    projector = S @ np.linalg.pinv(S)
    np.testing.assert_allclose(W @ S @ W, projector, atol=1e-10)


def test_rank_counts_what_stands_above_the_floor():
    assert psd.eigh(singular(4)).rank == 4
    assert psd.eigh(np.zeros((D, D))).rank == 0
    assert psd.eigh(np.diag([1.0, 2 * psd.rank_tolerance(2), 0.0])[:2, :2]).rank == 2
    assert psd.eigh(np.diag([1.0, 0.5 * psd.rank_tolerance(2)])).rank == 1


def test_logdet_of_a_singular_matrix_is_minus_infinity():
    assert psd.logdet(singular()) == -np.inf
    assert psd.eigh(singular()).condition() == np.inf


def test_the_floor_belongs_to_the_dtype_in_which_the_matrix_came():
    S = np.diag([1.0, 1e-8])
    assert psd.eigh(S).rank == 2
    assert psd.eigh(S.astype(np.float32)).rank == 1
    assert psd.eigh(torch.tensor(S, dtype=torch.float32)).rank == 1
    assert psd.rank_tolerance(5, torch.bfloat16) == 5 * 2.0**-7


@pytest.mark.parametrize("seed", range(3))
def test_geometric_mean_is_symmetric_in_its_arguments_and_solves_its_equation(seed):
    A, B = covariance(1e3, seed=seed), covariance(1e2, seed=seed + 10)
    X = psd.geometric_mean(A, B)
    np.testing.assert_allclose(X, psd.geometric_mean(B, A), atol=1e-12)
    np.testing.assert_allclose(X @ np.linalg.solve(A, X), B, atol=1e-11)


def test_geometric_mean_of_commuting_matrices_is_the_root_of_their_product():
    spectrum = psd.eigh(covariance())
    A = spectrum.power(1.0)
    B = (spectrum.vectors * np.arange(1.0, D + 1)) @ spectrum.vectors.T
    np.testing.assert_allclose(psd.geometric_mean(A, B), psd.sqrt((A @ B + B @ A) / 2), atol=1e-12)


def test_geometric_mean_allows_one_singular_argument_and_refuses_two():
    A, B = covariance(), singular(4)
    np.testing.assert_allclose(psd.geometric_mean(A, B), psd.geometric_mean(B, A), atol=1e-9)
    with pytest.raises(ValueError, match=r"geometric_mean: A has rank 4 .* one must be positive"):
        psd.geometric_mean(B, B)


def test_geometric_mean_is_carried_along_by_a_change_of_basis():
    A, B = covariance(1e2, seed=4), covariance(1e2, seed=5)
    M = np.random.default_rng(6).standard_normal((D, D))
    moved = psd.geometric_mean(M @ A @ M.T, M @ B @ M.T)
    np.testing.assert_allclose(moved, M @ psd.geometric_mean(A, B) @ M.T, atol=1e-10)


def test_one_dimension_works():
    assert psd.sqrt([[4]]).tolist() == [[2.0]]
    assert psd.geometric_mean([[4.0]], [[9.0]]).round(12).tolist() == [[6.0]]


@pytest.mark.parametrize(
    ("S", "message"),
    [
        (np.zeros((3, 2)), r"eigh: S has shape \(3, 2\); it must be square"),
        (np.zeros((0, 0)), r"must be square with at least one row"),
        (np.zeros(3), r"eigh: S has shape \(3,\); it must be square"),
        (np.full((2, 2), np.nan), "eigh: S holds NaN or infinity"),
        (np.full((2, 2), np.inf), "eigh: S holds NaN or infinity"),
        (np.array([[1.0, 1.0], [0.0, 1.0]]), "eigh: S differs from its transpose by 1;"),
        (np.diag([1.0, -0.1]), "eigh: S has the eigenvalue -0.1 .* positive semidefinite"),
        (np.diag([-1.0, -2.0]), "must be positive semidefinite"),
    ],
)
def test_a_matrix_that_is_no_covariance_is_refused_in_one_sentence(S, message):
    with pytest.raises(ValueError, match=message):
        psd.eigh(S)


def test_a_matrix_without_real_numbers_is_refused():
    with pytest.raises(TypeError, match="eigh: S holds complex128 values"):
        psd.eigh(np.eye(2) * 1j)


def test_matrices_of_different_size_have_no_geometric_mean():
    with pytest.raises(ValueError, match="A is 2 x 2 and B is 3 x 3"):
        psd.geometric_mean(np.eye(2), np.eye(3))


def test_rounding_is_no_asymmetry_and_no_indefiniteness():
    S = singular(3)
    S[0, 1] *= 1 + 1e-15
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert psd.eigh(S).rank == 3
        assert psd.eigh(S.astype(np.float32)).rank == 3
