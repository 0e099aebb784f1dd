import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

import reference_whitening as reference
from unabridged.geometry.moments import Moments
from unabridged.geometry.recipe import Recipe, held_out_factor
from unabridged.geometry.whitening import Whitening

N, D = 307, 11
RECIPES = {
    "paper": Recipe(),
    "half": Recipe(gamma=0.5),
    "uncentred": Recipe(beta=0.0, gamma=0.5),
    "rotation": Recipe(beta=0.0, gamma=0.0),
    "short": Recipe(dimension=5),
    "zca": Recipe(basis="zca"),
    "zca-short": Recipe(dimension=5, basis="zca"),
    "ledoit_wolf": Recipe(shrinkage="ledoit_wolf"),
    "oas": Recipe(shrinkage="oas", gamma=0.7),
}


@pytest.fixture(params=RECIPES.values(), ids=RECIPES)
def recipe(request):
    return request.param


def embeddings(n=N, mean=3.0, seed=0, d=D):
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((d, d)) * np.geomspace(1, 0.05, d)
    return rng.standard_normal((n, d)) @ mixing + mean


def test_whitened_rows_have_the_identity_as_covariance():
    Y = Whitening.fit(embeddings()).transform(embeddings())
    np.testing.assert_allclose(np.cov(Y.T, ddof=0), np.eye(D), atol=1e-10)
    np.testing.assert_allclose(Y.mean(axis=0), 0, atol=1e-10)


@pytest.mark.parametrize("k", [1, 5, 11])
def test_kernel_diagonalises_the_covariance_on_the_kept_directions(k):
    moments = Moments.of(embeddings())
    W = Whitening.from_moments(moments, Recipe(dimension=k)).kernel
    np.testing.assert_allclose(W.T @ moments.covariance() @ W, np.eye(k), atol=1e-10)


def test_cosines_equal_those_of_the_published_recipe():
    X = embeddings()
    kernel, mean = reference.recipe_of_the_post(X)
    ours = Whitening.fit(X).transform(X)
    np.testing.assert_allclose(
        reference.cosines(ours), reference.cosines((X - mean) @ kernel), atol=1e-10
    )


def test_cosines_do_not_change_under_any_invertible_map_of_the_input():
    X = embeddings()
    A = np.random.default_rng(1).standard_normal((D, D)) + 3 * np.eye(D)
    b = np.arange(D)
    before, after = Whitening.fit(X), Whitening.fit(X @ A + b)
    np.testing.assert_allclose(
        reference.cosines(before.transform(X)),
        reference.cosines(after.transform(X @ A + b)),
        atol=1e-9,
    )


def test_without_beta_and_gamma_every_cosine_stays():
    X = embeddings()
    rotated = Whitening.fit(X, Recipe(beta=0.0, gamma=0.0)).transform(X)
    np.testing.assert_allclose(reference.cosines(rotated), reference.cosines(X), atol=1e-12)


def test_without_gamma_cosines_stay_even_for_rows_outside_the_fitted_span():
    few = embeddings(n=4)
    rotation = Whitening.fit(few, Recipe(beta=0.0, gamma=0.0))
    unseen = embeddings(seed=5)
    rotated = rotation.transform(unseen)
    np.testing.assert_allclose(reference.cosines(rotated), reference.cosines(unseen), atol=1e-12)


def test_the_covariance_is_taken_about_beta_times_the_mean():
    X = embeddings()
    whitening = Whitening.fit(X, Recipe(beta=0.3))
    Y = whitening.transform(X)
    np.testing.assert_allclose(Y.T @ Y / N, np.eye(D), atol=1e-10)
    np.testing.assert_allclose(whitening.mean, 0.3 * X.mean(axis=0), atol=1e-12)


def test_gamma_leaves_the_spread_to_the_power_one_minus_gamma():
    X = embeddings()
    whitening = Whitening.fit(X, Recipe(gamma=0.5))
    spread = np.diag(np.cov(whitening.transform(X).T, ddof=0))
    np.testing.assert_allclose(spread, np.sqrt(whitening.values), rtol=1e-9)


def test_zca_has_the_cosines_of_pca_and_stays_nearest_to_the_input():
    X = embeddings()
    pca, zca = Whitening.fit(X), Whitening.fit(X, Recipe(basis="zca"))
    np.testing.assert_allclose(
        reference.cosines(pca.transform(X)), reference.cosines(zca.transform(X)), atol=1e-10
    )
    centred = X - X.mean(axis=0)
    rotation = np.linalg.qr(np.random.default_rng(2).standard_normal((D, D)))[0]
    moved = [np.linalg.norm(zca.transform(X) @ Q - centred) for Q in (np.eye(D), rotation)]
    assert moved[0] < np.linalg.norm(pca.transform(X) - centred)
    assert moved[0] < moved[1]


def test_inverse_transform_returns_the_rows(recipe):
    X = embeddings()
    whitening = Whitening.fit(X, recipe)
    back = whitening.inverse_transform(whitening.transform(X))
    if recipe.dimension is None:
        np.testing.assert_allclose(back, X, atol=1e-9)
    else:
        U = np.linalg.svd(X - X.mean(0), full_matrices=False)[2][: recipe.dimension]
        nearest = (X - X.mean(0)) @ U.T @ U + X.mean(0)
        np.testing.assert_allclose(back, nearest, atol=1e-9)


def test_inverse_transform_undoes_shrunk_directions_too():
    X = embeddings(n=6)
    whitening = Whitening.fit(X, Recipe(shrinkage="oas"))
    unseen = embeddings(seed=9)
    np.testing.assert_allclose(
        whitening.inverse_transform(whitening.transform(unseen)), unseen, atol=1e-9
    )


def test_merged_moments_give_the_whitening_of_all_rows(recipe):
    X = embeddings()
    parts = [Moments.of(part) for part in np.split(X, [50, 51, 200])]
    merged = Whitening.from_moments((parts[0] + parts[3]) + (parts[2] + parts[1]), recipe)
    np.testing.assert_allclose(merged.kernel, Whitening.fit(X, recipe).kernel, atol=1e-9)


def test_queries_are_centred_by_their_own_mean():
    X, Q = embeddings(), embeddings(seed=3, mean=-2.0, n=53)
    whitening = Whitening.fit(X, Recipe(beta=0.8), queries=Q)
    np.testing.assert_allclose(
        whitening.transform_query(Q), (Q - 0.8 * Q.mean(0)) @ whitening.kernel, atol=1e-9
    )
    np.testing.assert_array_equal(
        whitening.transform(X), Whitening.fit(X, Recipe(0.8)).transform(X)
    )
    later = Whitening.fit(X, Recipe(beta=0.8)).with_query_mean(Q.mean(0))
    np.testing.assert_allclose(later.query_mean, whitening.query_mean, atol=1e-12)


def test_queries_without_a_mean_of_their_own_are_treated_like_documents():
    X = embeddings()
    whitening = Whitening.fit(X)
    np.testing.assert_array_equal(whitening.transform_query(X), whitening.transform(X))


def test_the_identity_changes_nothing():
    X = embeddings().astype(np.float32)
    np.testing.assert_array_equal(Whitening.identity(D).transform(X), X)
    np.testing.assert_array_equal(Whitening.identity(D).inverse_transform(X), X)


@pytest.mark.parametrize(
    ("n", "published"), [(500, 4.39), (768, 2.01), (1500, 1.346), (5000, 1.084)]
)
def test_held_out_law_has_its_published_values(n, published):
    assert held_out_factor(n, 384) == pytest.approx(published, abs=6e-3)


@pytest.mark.parametrize("n", [30, 60, 400])
def test_unseen_gaussian_rows_come_out_as_long_as_the_law_says(n):
    d, repeats = 13, 60
    rng = np.random.default_rng(n)
    lengths = []
    for _ in range(repeats):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            whitening = Whitening.fit(rng.standard_normal((n, d)))
        unseen = whitening.transform(rng.standard_normal((200, d)))
        # The law is for the covariance with denominator n - 1; ours has n.
        lengths.append((unseen**2).mean() * (n - 1) / n)
    standard_error = np.std(lengths) / np.sqrt(repeats)
    assert abs(np.mean(lengths) - held_out_factor(n, d)) < 4 * standard_error
    assert np.mean(lengths) > 1


def test_too_few_rows_have_an_infinite_held_out_factor():
    assert held_out_factor(12, 10) == np.inf
    assert held_out_factor(13, 10) < np.inf


def test_shrinkage_tames_unseen_rows():
    fitted, unseen = embeddings(n=2 * D), embeddings(seed=7, n=2000)
    with pytest.warns(UserWarning, match="22 samples for 11 directions"):
        plain = Whitening.fit(fitted)
    shrunk = Whitening.fit(fitted, Recipe(shrinkage="ledoit_wolf"))
    assert (shrunk.transform(unseen) ** 2).mean() < 0.7 * (plain.transform(unseen) ** 2).mean()
    assert 0 < shrunk.intensity < 1


def test_few_rows_warn_once_and_enough_rows_do_not():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Whitening.fit(embeddings(n=4 * D - 1))
        assert len(caught) == 1
        assert caught[0].filename == __file__
        Whitening.fit(embeddings(n=4 * D))
        Whitening.fit(embeddings(n=20), Recipe(shrinkage="oas"))
        Whitening.fit(embeddings(n=20), Recipe(gamma=0.0))
        assert len(caught) == 1


def test_directions_without_spread_get_weight_zero_and_nothing_becomes_infinite():
    X = embeddings(n=200)
    X[:, [2, 6]] = 1.25
    X[:, 4] = X[:, 3]
    whitening = Whitening.fit(X)
    assert whitening.rank == D - 3
    Y = whitening.transform(X)
    assert Y.shape == (200, D)
    np.testing.assert_allclose(
        np.cov(Y.T, ddof=0), np.diag([1.0] * whitening.rank + [0.0] * 3), atol=1e-8
    )
    with pytest.raises(ValueError, match="dimension is 9 and the data spans only 8 of 11"):
        Whitening.fit(X, Recipe(dimension=9))


def test_fewer_rows_than_dimensions_span_only_themselves():
    X = embeddings(n=5)
    with pytest.warns(UserWarning, match="5 samples for 4 directions"):
        whitening = Whitening.fit(X)
    assert whitening.rank == 4
    np.testing.assert_allclose(np.linalg.norm(whitening.transform(X), axis=1), 2.0, atol=1e-9)


def test_duplicates_change_nothing_but_the_count():
    X = embeddings()
    once, thrice = Whitening.fit(X), Whitening.fit(np.repeat(X, 3, axis=0))
    np.testing.assert_allclose(once.kernel, thrice.kernel, atol=1e-9)
    assert thrice.count == 3 * once.count


def test_a_row_at_the_mean_becomes_zero():
    X = embeddings()
    Y = Whitening.fit(X).transform(X.mean(axis=0, keepdims=True))
    np.testing.assert_allclose(Y, 0, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_callers_dtype_comes_back(dtype):
    X = embeddings().astype(dtype)
    whitening = Whitening.fit(X)
    assert whitening.transform(X).dtype == dtype
    tensor = whitening.transform(torch.from_numpy(X))
    assert tensor.dtype == torch.from_numpy(X).dtype
    np.testing.assert_array_equal(tensor.numpy(), whitening.transform(X))
    integers = np.arange(D)[None]
    assert whitening.transform(integers).dtype == np.float64


def test_float32_at_a_large_mean_loses_no_digits_of_its_own():
    X = (embeddings(mean=0.0) + 1e3).astype(np.float32)
    whitening = Whitening.fit(X)
    single, double = whitening.transform(X), whitening.transform(X.astype(np.float64))
    np.testing.assert_allclose(single, double, atol=3e-6)
    naive = X @ whitening.kernel.astype(np.float32) - (
        whitening.mean.astype(np.float32) @ whitening.kernel.astype(np.float32)
    )
    assert np.abs(naive - double).max() > 1e-4


def test_blocks_make_no_difference(monkeypatch):
    X = embeddings()
    whitening = Whitening.fit(X)
    whole = whitening.transform(X)
    monkeypatch.setattr("unabridged.geometry.whitening.BLOCK_ROWS", 17)
    np.testing.assert_allclose(whitening.transform(X), whole, atol=1e-12)


def test_an_empty_batch_gives_an_empty_batch():
    assert Whitening.fit(embeddings()).transform(np.empty((0, D))).shape == (0, D)


def test_one_dimension_works():
    Y = Whitening.fit([[1.0], [3.0], [1.0], [3.0]]).transform([[5.0]])
    np.testing.assert_allclose(np.abs(Y), [[3.0]])


def test_equal_data_gives_equal_bits():
    assert (Whitening.fit(embeddings()).kernel == Whitening.fit(embeddings()).kernel).all()


def test_saving_and_loading_is_bitwise(tmp_path, recipe):
    X = embeddings()
    whitening = Whitening.fit(X, recipe, queries=X[:20])
    whitening.save(tmp_path / "w.safetensors")
    loaded = Whitening.load(tmp_path / "w.safetensors")
    assert loaded.recipe == whitening.recipe
    assert (loaded.rank, loaded.count) == (whitening.rank, whitening.count)
    assert loaded.intensity == whitening.intensity
    np.testing.assert_array_equal(loaded.transform(X), whitening.transform(X))
    np.testing.assert_array_equal(loaded.transform_query(X), whitening.transform_query(X))
    np.testing.assert_array_equal(loaded.inverse, whitening.inverse)
    np.testing.assert_array_equal(loaded.values, whitening.values)


def test_a_file_of_another_schema_or_cut_short_is_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    Whitening.fit(embeddings()).save(path)
    foreign = tmp_path / "foreign.safetensors"
    save_file(load_file(path), foreign, metadata={"unabridged": json.dumps({"schema": "x/2"})})
    with pytest.raises(ValueError, match=r"schema 'x/2' and .* expected"):
        Whitening.load(foreign)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ValueError, match="not a complete safetensors file"):
        Whitening.load(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"beta": 1.5}, "Recipe: beta is 1.5; it must lie between 0 and 1"),
        ({"gamma": -0.1}, "Recipe: gamma is -0.1; it must lie between 0 and 1"),
        ({"gamma": float("nan")}, "Recipe: gamma is nan"),
        ({"dimension": 0}, "Recipe: dimension is 0; it must be at least 1"),
        ({"shrinkage": "lw"}, "Recipe: shrinkage is 'lw'; choose one of"),
        ({"basis": "svd"}, "Recipe: basis is 'svd'; choose one of"),
    ],
)
def test_settings_without_meaning_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(Recipe(), **changes)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Whitening.fit(np.zeros(3)), r"X has shape \(3,\); it must be \(rows, columns\)"),
        (lambda: Whitening.fit(np.ones((1, 3))), "moments are of 1 sample; at least 2 samples"),
        (lambda: Whitening.fit(np.empty((0, 3))), "moments are of 0 sample"),
        (lambda: Whitening.fit(np.ones((9, 3))), "all rows are equal"),
        (lambda: Whitening.fit([[1.0], [np.nan]]), "row 1 of X"),
        (lambda: Whitening.fit(embeddings()).transform(np.ones((2, 3))), "3 columns and 11 are"),
        (lambda: Whitening.fit(embeddings()).inverse_transform(np.ones((2, 3))), "Y has 3 columns"),
        (lambda: Whitening.fit(embeddings()).transform(np.full((2, D), np.nan)), "rows hold NaN"),
        (lambda: Whitening.fit(embeddings(), queries=[[1.0]]), r"query_mean has shape \(1,\)"),
        (lambda: Whitening.fit(embeddings(), Recipe(dimension=12)), "spans only 11 of 11"),
    ],
)
def test_bad_input_is_answered_in_one_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call()
