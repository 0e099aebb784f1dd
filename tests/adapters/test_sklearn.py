import warnings

import numpy as np
import pytest
import scipy.sparse
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from unabridged.adapters.sklearn import RandomProjectionTransformer, WhiteningTransformer

N, D = 211, 7


def rows(n=N, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, D)) @ rng.standard_normal((D, D)) + 3


@pytest.mark.filterwarnings("ignore:Whitening.*samples for:UserWarning")
@parametrize_with_checks(
    [
        WhiteningTransformer(),
        WhiteningTransformer(gamma=0.5, shrinkage="oas", basis="zca"),
        RandomProjectionTransformer(8),
        RandomProjectionTransformer(2, kind="sparse"),
    ]
)
def test_scikit_learn_finds_nothing_to_complain_about(estimator, check):
    check(estimator)


def test_whitening_agrees_with_pca_up_to_sign_and_the_denominator():
    X = rows()
    ours = WhiteningTransformer(n_components=5).fit_transform(X)
    theirs = PCA(n_components=5, whiten=True, svd_solver="full").fit_transform(X)
    signs = np.sign((ours * theirs).sum(axis=0))
    np.testing.assert_allclose(ours, theirs * signs * np.sqrt(N / (N - 1)), atol=1e-9)


def test_batches_in_any_order_give_the_fit_of_the_whole():
    X = rows()
    whole = WhiteningTransformer().fit(X)
    parts = WhiteningTransformer()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for part in reversed(np.split(X, [30, 90, 140])):
            parts.partial_fit(part)
    np.testing.assert_allclose(parts.components_, whole.components_, atol=1e-10)
    assert parts.n_samples_seen_ == whole.n_samples_seen_ == N


def test_fit_forgets_what_partial_fit_had_seen():
    estimator = WhiteningTransformer().partial_fit(rows(seed=1))
    refitted = estimator.fit(rows())
    np.testing.assert_array_equal(refitted.mean_, WhiteningTransformer().fit(rows()).mean_)


def test_inverse_transform_returns_the_rows():
    X = rows()
    estimator = WhiteningTransformer(gamma=0.5).fit(X)
    np.testing.assert_allclose(estimator.inverse_transform(estimator.transform(X)), X, atol=1e-10)


def test_both_stand_in_a_pipeline_and_name_their_columns():
    pipeline = make_pipeline(
        RandomProjectionTransformer(5, kind="orthogonal", random_state=0), WhiteningTransformer()
    )
    Y = pipeline.fit_transform(rows())
    np.testing.assert_allclose(np.cov(Y.T, ddof=0), np.eye(5), atol=1e-10)
    assert list(pipeline.get_feature_names_out()) == [f"whiteningtransformer{i}" for i in range(5)]


@pytest.mark.parametrize("kind", ["gaussian", "rademacher", "sparse", "hadamard", "orthogonal"])
def test_projection_of_sparse_rows_equals_that_of_dense_rows(kind):
    X = rows() * (np.random.default_rng(1).random((N, D)) < 0.3)
    estimator = RandomProjectionTransformer(3, kind=kind, random_state=0).fit(X)
    dense = estimator.transform(X)
    np.testing.assert_allclose(estimator.transform(scipy.sparse.csr_matrix(X)), dense, atol=1e-12)
    np.testing.assert_allclose(dense, X @ estimator.components_.T, atol=1e-12)


def test_equal_random_states_give_equal_bits_and_others_do_not():
    X = rows()
    estimator = RandomProjectionTransformer(3, random_state=5)
    again = clone(estimator).fit_transform(X)
    np.testing.assert_array_equal(estimator.fit_transform(X), again)
    other = RandomProjectionTransformer(3, random_state=6).fit_transform(X)
    assert np.abs(other - again).max() > 0.1


def test_settings_without_meaning_are_refused_at_fit():
    with pytest.raises(ValueError, match="Recipe: beta is 2"):
        WhiteningTransformer(beta=2.0).fit(rows())
    with pytest.raises(ValueError, match="kind='fourier'"):
        RandomProjectionTransformer(3, kind="fourier").fit(rows())
