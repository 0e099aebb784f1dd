"""scikit-learn's estimator contract for whitening and random projection.

The mathematics stands in `unabridged.geometry`; an estimator here holds settings as scikit-learn
wants them (stored untouched, cloned, searched over) and, after `fit`, one state object of ours:
`whitening_` or `projection_`. Both pass scikit-learn's own `parametrize_with_checks`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from unabridged.geometry.moments import Moments
from unabridged.geometry.random_projection import Kind, RandomProjection
from unabridged.geometry.recipe import Basis, Recipe
from unabridged.geometry.shrinkage import Shrinkage
from unabridged.geometry.whitening import Whitening

__all__ = ["RandomProjectionTransformer", "WhiteningTransformer"]

Rows = NDArray[Any]
FLOATS = [np.float64, np.float32]


class WhiteningTransformer(
    ClassNamePrefixFeaturesOutMixin,  # type: ignore[misc]
    TransformerMixin,  # type: ignore[misc]
    BaseEstimator,  # type: ignore[misc]
):
    """Whitening as a scikit-learn transformer; `partial_fit` streams, in any order, exactly.

    Unlike `PCA(whiten=True)` it shrinks, damps by degrees, never divides by a direction without
    spread, divides by N instead of N - 1, and gives the same result from batches as from the whole.

    Args:
        beta: share of the mean that is removed, 0 to 1.
        gamma: how much of the spread is evened out, 0 to 1.
        n_components: leading directions that are kept; None keeps all.
        shrinkage: "none", "ledoit_wolf" or "oas".
        basis: "pca" or "zca".

    Attributes:
        whitening_: the fitted `unabridged.geometry.whitening.Whitening`; `save` it without pickle.
        moments_: the `Moments` seen so far.
        mean_: (n_features_in_,) what is subtracted.
        components_: (K, n_features_in_) what centred rows are multiplied with, transposed.
        explained_variance_: (n_features_in_,) eigenvalues of the covariance, descending.
        n_samples_seen_: rows seen so far.

    >>> X = np.random.default_rng(0).standard_normal((100, 3)) * [1.0, 5.0, 9.0]
    >>> np.cov(WhiteningTransformer().fit_transform(X).T, ddof=0).round(6).diagonal().tolist()
    [1.0, 1.0, 1.0]
    """

    def __init__(
        self,
        *,
        beta: float = 1.0,
        gamma: float = 1.0,
        n_components: int | None = None,
        shrinkage: Shrinkage = "none",
        basis: Basis = "pca",
    ) -> None:
        self.beta = beta
        self.gamma = gamma
        self.n_components = n_components
        self.shrinkage = shrinkage
        self.basis = basis

    def fit(self, X: object, y: object = None) -> WhiteningTransformer:  # noqa: ARG002
        """Fit to the rows of `X` (n_samples, n_features), forgetting what was seen before.

        Raises:
            ValueError: as `Whitening.from_moments`.
        """
        rows = validate_data(self, X, dtype=FLOATS)
        return self._settle(Moments.of(rows))

    def partial_fit(self, X: object, y: object = None) -> WhiteningTransformer:  # noqa: ARG002
        """Count the rows of `X` in; the result equals `fit` on all rows together.

        Raises:
            ValueError: as `fit`; also while the rows seen so far are fewer than two.
        """
        first = not hasattr(self, "moments_")
        rows = validate_data(self, X, dtype=FLOATS, reset=first)
        seen = Moments.empty(rows.shape[1]) if first else self.moments_
        return self._settle(seen.update(rows))

    def transform(self, X: object) -> Rows:
        """(n_samples, K) whitened rows, in the dtype of `X`."""
        check_is_fitted(self)
        rows = validate_data(self, X, dtype=FLOATS, reset=False)
        return np.asarray(self.whitening_.transform(rows))

    def inverse_transform(self, X: object) -> Rows:
        """(n_samples, n_features_in_) back from the whitened space."""
        check_is_fitted(self)
        rows = validate_data(self, X, dtype=FLOATS, skip_check_array=True)
        return np.asarray(self.whitening_.inverse_transform(np.asarray(rows)))

    @property
    def _n_features_out(self) -> int:
        return self.whitening_.dimension

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _settle(self, moments: Moments) -> WhiteningTransformer:
        recipe = Recipe(self.beta, self.gamma, self.n_components, self.shrinkage, self.basis)
        self.whitening_ = Whitening.from_moments(moments, recipe)
        self.moments_ = moments
        self.mean_ = self.whitening_.mean
        self.components_ = self.whitening_.kernel.T
        self.explained_variance_ = self.whitening_.values
        self.n_samples_seen_ = int(moments.count)
        return self


class RandomProjectionTransformer(
    ClassNamePrefixFeaturesOutMixin,  # type: ignore[misc]
    TransformerMixin,  # type: ignore[misc]
    BaseEstimator,  # type: ignore[misc]
):
    """Random projection as a scikit-learn transformer; dense and sparse rows.

    Args:
        n_components: columns of the output.
        kind: "gaussian", "rademacher", "sparse", "hadamard" or "orthogonal".
        nonzeros: entries a column of a sparse matrix has; None for the default.
        random_state: None, an integer or a numpy RandomState; equal integers give equal bits.

    Attributes:
        projection_: the fitted `unabridged.geometry.random_projection.RandomProjection`.
        components_: (n_components, n_features_in_) the matrix, dense.

    >>> X = np.random.default_rng(0).standard_normal((5, 300))
    >>> RandomProjectionTransformer(64, random_state=0).fit_transform(X).shape
    (5, 64)
    """

    def __init__(
        self,
        n_components: int = 128,
        *,
        kind: Kind = "gaussian",
        nonzeros: int | None = None,
        random_state: object = None,
    ) -> None:
        self.n_components = n_components
        self.kind = kind
        self.nonzeros = nonzeros
        self.random_state = random_state

    def fit(self, X: object, y: object = None) -> RandomProjectionTransformer:  # noqa: ARG002
        """Draw the matrix for the width of `X` (n_samples, n_features); values are not used.

        Raises:
            ValueError: as `RandomProjection`, for settings that do not fit the width.
        """
        rows = validate_data(self, X, dtype=FLOATS, accept_sparse=["csr", "csc"])
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        self.projection_ = RandomProjection(
            self.kind, rows.shape[1], self.n_components, seed=seed, nonzeros=self.nonzeros
        )
        return self

    def transform(self, X: object) -> Rows:
        """(n_samples, n_components) projected rows, dense, in the dtype of `X`."""
        check_is_fitted(self)
        rows = validate_data(self, X, dtype=FLOATS, accept_sparse=["csr", "csc"], reset=False)
        return np.asarray(self.projection_.transform(rows))

    @property
    def components_(self) -> Rows:
        """(n_components, n_features_in_) the projection matrix, dense."""
        return self.projection_.matrix

    @property
    def _n_features_out(self) -> int:
        return self.projection_.dimension

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.input_tags.sparse = True
        return tags
