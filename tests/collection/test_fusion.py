import numpy as np
import pytest

import reference_collection as reference
from unabridged.collection.fusion import fuse, mean_of_best, zscore


@pytest.mark.parametrize("best", [1, 2, 3, 5])
def test_mean_of_best_matches_sorting_each_document(best):
    rng = np.random.default_rng(1)
    lengths = rng.integers(1, 11, 29)
    # Few different values, so that equal scores within a document are common.
    scores = (rng.integers(-5, 5, lengths.sum()) / 8).astype(np.float32)
    starts = np.cumsum(lengths) - lengths
    expected = [
        reference.mean_of_best(part, best) for part in np.split(scores.astype(float), starts[1:])
    ]
    np.testing.assert_allclose(mean_of_best(scores, starts, best=best), expected, rtol=1e-6)


def test_mean_of_best_leaves_its_argument_alone():
    scores = np.array([0.5, 0.25], dtype=np.float32)
    mean_of_best(scores, np.array([0]))
    np.testing.assert_array_equal(scores, np.float32([0.5, 0.25]))


def test_mean_of_best_of_no_documents_is_empty():
    empty = np.empty(0, dtype=np.float32)
    assert mean_of_best(empty, np.empty(0, dtype=np.int64)).shape == (0,)


def test_zscore_has_mean_zero_and_spread_one():
    scores = np.random.default_rng(2).gamma(2, size=37).astype(np.float32)
    standard = zscore(scores)
    np.testing.assert_allclose(standard, reference.zscores(scores.astype(float)), atol=1e-5)


@pytest.mark.parametrize("value", [0.0, 0.7, 1e6])
def test_zscore_of_equal_scores_is_zero(value):
    scores = np.full(5, value, dtype=np.float32)
    scores[2] = np.nextafter(scores[2], np.float32(np.inf))
    np.testing.assert_array_equal(zscore(scores), np.zeros(5))


def test_fuse_ignores_the_scale_of_its_parts():
    rng = np.random.default_rng(3)
    bm25, dense = rng.random((2, 13)).astype(np.float32)
    weights = {"bm25": 0.7, "dense": 0.3}
    np.testing.assert_allclose(
        fuse({"bm25": 100 * bm25 + 5, "dense": dense}, weights),
        fuse({"bm25": bm25, "dense": dense}, weights),
        atol=1e-4,
    )


def test_fuse_weighs_its_parts():
    up, down = np.float32([0, 1]), np.float32([1, 0])
    assert np.argmax(fuse({"a": up, "b": down}, {"a": 0.7, "b": 0.3})) == 1
    assert np.argmax(fuse({"a": up, "b": down}, {"a": 0.3, "b": 0.7})) == 0
