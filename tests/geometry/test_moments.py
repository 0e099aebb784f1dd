import json

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

import reference_whitening as reference
from unabridged.geometry.moments import Moments

N, D = 1009, 13


def rows(mean=0.0, seed=0, n=N):
    rng = np.random.default_rng(seed)
    return rng.standard_exponential((n, D)) @ rng.standard_normal((D, D)) + mean


def assert_equal(moments, expected, tolerance=1e-12):
    """Every field within `tolerance` of its natural scale: powers of the total spread."""
    count, mean, scatter, radial3, radial4 = expected
    spread = np.sqrt(np.trace(scatter) / count) + 1e-300
    assert moments.count == pytest.approx(count, rel=tolerance)
    size = max(spread, np.abs(mean).max())
    np.testing.assert_allclose(moments.mean, mean, rtol=0, atol=tolerance * size)
    np.testing.assert_allclose(moments.scatter, scatter, rtol=0, atol=tolerance * count * spread**2)
    np.testing.assert_allclose(moments.radial3, radial3, rtol=0, atol=tolerance * count * spread**3)
    assert moments.radial4 == pytest.approx(radial4, rel=10 * tolerance)


def fields(m):
    return m.count, m.mean, m.scatter, m.radial3, m.radial4


@pytest.mark.parametrize("mean", [0.0, 1e3])
def test_moments_match_their_definition(mean):
    X = rows(mean)
    assert_equal(Moments.of(X), reference.moments(X))


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_half_and_single_precision_at_mean_1000_keep_ten_digits(dtype):
    X = rows(1e3, n=211).astype(dtype)
    exact = reference.exact_covariance(X)
    got = Moments.of(X).covariance()
    np.testing.assert_allclose(got, exact, rtol=0, atol=1e-10 * np.abs(exact).max())


def test_the_recursion_by_raw_second_moments_loses_everything_there():
    # The other side: without centring, float32 at mean 1000 has no correct digit left.
    X = rows(1e3, n=211).astype(np.float32)
    exact = reference.exact_covariance(X)
    raw = (X.T @ X) / np.float32(len(X)) - np.outer(X.mean(0), X.mean(0))
    assert np.abs(raw - exact).max() > 1e-3 * np.abs(exact).max()


@pytest.mark.parametrize("cuts", [(1,), (1, 2, 3), (500,), (100, 101, 900)])
def test_any_grouping_gives_the_same_moments(cuts):
    X = rows(1e2)
    parts = [Moments.of(part) for part in np.split(X, cuts)]
    whole = reference.moments(X)
    left = parts[0]
    for part in parts[1:]:
        left = left + part
    right = parts[-1]
    for part in reversed(parts[:-1]):
        right = part + right
    assert_equal(left, whole)
    assert_equal(right, whole)


def test_any_order_of_rows_gives_the_same_moments():
    X = rows(1e2)
    shuffled = np.random.default_rng(1).permutation(X)
    assert_equal(Moments.of(shuffled), fields(Moments.of(X)))


def test_merging_batches_far_apart_is_exact():
    a, b = rows(0.0), rows(1e3, seed=2)
    assert_equal(Moments.of(a) + Moments.of(b), reference.moments(np.vstack([a, b])))


def test_updating_row_by_row_equals_all_at_once():
    X = rows(n=97)
    moments = Moments.empty(D)
    for row in X:
        moments = moments.update(row[None])
    assert_equal(moments, reference.moments(X))


def test_empty_is_the_zero_of_merging():
    m = Moments.of(rows())
    assert (m + Moments.empty(D)) is m
    assert (Moments.empty(D) + m) is m
    assert Moments.of(np.empty((0, D))).count == 0


def test_downdate_undoes_update():
    A, B = rows(1e2), rows(50.0, seed=3, n=503)
    assert_equal(Moments.of(A).update(B).downdate(B), reference.moments(A), tolerance=1e-11)
    assert Moments.of(A).downdate(A).count == 0


def test_removing_more_than_there_is_is_refused():
    with pytest.raises(ValueError, match="rows to remove weigh 1009 and there are only 10"):
        Moments.of(rows(n=10)).downdate(rows())


def test_a_weight_of_two_counts_a_row_twice():
    X = rows(7.0, n=53)
    weights = np.random.default_rng(4).integers(0, 4, len(X))
    repeated = np.repeat(X, weights, axis=0)
    assert_equal(Moments.of(X, weights), reference.moments(repeated))
    real = np.random.default_rng(5).random(len(X))
    assert_equal(Moments.of(X, real), reference.moments(X, real))
    assert Moments.of(X, np.zeros(len(X))).count == 0


def test_forgetting_scales_weight_and_nothing_else():
    m = Moments.of(rows())
    faded = m.forget(0.25)
    assert faded.count == N / 4
    np.testing.assert_allclose(faded.covariance(), m.covariance(), rtol=1e-14)
    np.testing.assert_array_equal(faded.mean, m.mean)
    assert m.forget(0.0).count == 0
    assert_equal(m.forget(0.5).update(rows(1.0, seed=8)), _weighted(0.5))


def _weighted(factor):
    X = np.vstack([rows(), rows(1.0, seed=8)])
    return reference.moments(X, np.repeat([factor, 1.0], N))


def test_an_empty_batch_changes_nothing():
    m = Moments.of(rows())
    assert m.update(np.empty((0, D), np.float32)) is m


@pytest.mark.parametrize(
    "convert",
    [
        torch.from_numpy,
        lambda X: torch.from_numpy(X).float(),
        lambda X: X.astype(np.float32),
        np.asfortranarray,
        lambda X: X[::-1][::-1],
        lambda X: X.astype(">f8"),
        lambda X: X.tolist(),
    ],
)
def test_any_kind_of_matrix_is_read(convert):
    X = rows().astype(np.float32).astype(np.float64)
    assert_equal(Moments.of(convert(X)), reference.moments(X))


def test_bfloat16_and_integers_are_read_exactly():
    X = np.random.default_rng(0).integers(-100, 100, (N, D))
    assert_equal(Moments.of(X), reference.moments(X))
    assert_equal(Moments.of(torch.from_numpy(X).bfloat16()), reference.moments(X))


def test_strides_and_read_only_arrays_do_no_harm():
    X = rows()
    view = X[::3, ::-1]
    frozen = X.copy()
    frozen.flags.writeable = False
    assert_equal(Moments.of(view), reference.moments(view))
    assert_equal(Moments.of(frozen), reference.moments(X))


def test_one_dimension_and_one_row():
    m = Moments.of([[3.0]])
    assert (m.count, m.mean.tolist(), m.scatter.tolist()) == (1.0, [3.0], [[0.0]])


def test_the_scatter_is_exactly_symmetric():
    scatter = (Moments.of(rows(3.0)) + Moments.of(rows(5.0, seed=1))).scatter
    np.testing.assert_array_equal(scatter, scatter.T)


def test_memory_is_constant_in_the_number_of_rows():
    def largest_allocation(n):
        X = torch.zeros(n, D)
        with torch.profiler.profile(profile_memory=True) as profile:
            Moments.of(X)
        return max(event.cpu_memory_usage for event in profile.events())

    small, large = largest_allocation(100_000), largest_allocation(400_000)
    assert 0 < large <= 1.1 * small


def test_saving_and_loading_is_bitwise(tmp_path):
    m = Moments.of(rows(9.0))
    m.save(tmp_path / "m.safetensors")
    loaded = Moments.load(tmp_path / "m.safetensors")
    for a, b in zip(fields(m), fields(loaded), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_file_of_another_schema_or_cut_short_is_refused(tmp_path):
    path = tmp_path / "m.safetensors"
    Moments.of(rows()).save(path)
    foreign = tmp_path / "foreign.safetensors"
    save_file(load_file(path), foreign, metadata={"unabridged": json.dumps({"schema": "other/9"})})
    with pytest.raises(ValueError, match="has the schema 'other/9'"):
        Moments.load(foreign)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(ValueError, match="not a complete safetensors file"):
        Moments.load(path)
    with pytest.raises(FileNotFoundError):
        Moments.load(tmp_path / "absent.safetensors")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Moments.of(np.zeros(5)), ValueError, r"X has shape \(5,\); it must be \(rows,"),
        (lambda: Moments.of(np.zeros((5, 0))), ValueError, "at least one column"),
        (lambda: Moments.of([["a"]]), TypeError, "X holds <U1 values; real numbers"),
        (lambda: Moments.of(np.eye(2) * 1j), TypeError, "complex128 values"),
        (lambda: Moments.of(torch.eye(2) * 1j), TypeError, "complex values"),
        (lambda: Moments.of([[1.0], [np.nan], [np.inf]]), ValueError, "row 1 of X .and 1 more."),
        (lambda: Moments.of([[1e200], [0.0]]), ValueError, "overflow float64"),
        (lambda: Moments.of([[1.0]], [-1.0]), ValueError, "smallest weight is -1"),
        (lambda: Moments.of([[1.0]], [1.0, 2.0]), ValueError, r"weights has shape \(2,\)"),
        (lambda: Moments.of([[1.0]], [np.nan]), ValueError, "weights holds NaN"),
        (lambda: Moments.empty(0), ValueError, "dimension is 0; it must be at least 1"),
        (lambda: Moments.empty(2).update(np.eye(3)), ValueError, "has 3 columns and 2 are"),
        (lambda: Moments.empty(2) + Moments.empty(3), ValueError, "have 2 and 3 dimensions"),
        (lambda: Moments.empty(2).forget(1.5), ValueError, "factor is 1.5; it must lie"),
        (lambda: Moments.empty(2).covariance(), ValueError, "total weight is 0 and ddof is 0"),
    ],
)
def test_bad_input_is_answered_in_one_sentence(call, error, message):
    with pytest.raises(error, match=message):
        call()
