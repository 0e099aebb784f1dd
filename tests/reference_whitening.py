"""Slow, obvious versions of moments, roots and whitening, for comparison."""

from __future__ import annotations

from fractions import Fraction

import mpmath
import numpy as np


def moments(X, weights=None):
    """Weight, mean, scatter and radial moments in long double, straight from the definitions."""
    X = np.asarray(X, dtype=np.longdouble)
    w = np.ones(len(X), np.longdouble) if weights is None else np.asarray(weights, np.longdouble)
    mean = (w[:, None] * X).sum(0) / w.sum()
    c = X - mean
    squares = (c**2).sum(1)
    return (
        float(w.sum()),
        mean.astype(float),
        ((w[:, None] * c).T @ c).astype(float),
        ((w * squares)[:, None] * c).sum(0).astype(float),
        float((w * squares**2).sum()),
    )


def exact_covariance(X, bits=60):
    """Covariance (denominator N) in integers: exact for values that are multiples of 2^-bits."""
    whole = [[Fraction(float(x)) * 2**bits for x in row] for row in X]
    assert all(x.denominator == 1 for row in whole for x in row)
    Z = np.array([[x.numerator for x in row] for row in whole], dtype=object)
    n, sums = len(Z), Z.sum(axis=0)
    numerator = n * (Z.T @ Z) - np.outer(sums, sums)
    scale = n * n * 2 ** (2 * bits)
    return np.array([[float(Fraction(x, scale)) for x in row] for row in numerator])


def recipe_of_the_post(X):
    """`compute_kernel_bias` of BERT-whitening as published: SVD, no floor; returns W and mean."""
    mean = X.mean(axis=0)
    covariance = np.cov(X.T, ddof=0)
    u, s, _ = np.linalg.svd(covariance)
    return u @ np.diag(1 / np.sqrt(s)), mean


def cosines(X):
    """All pairwise cosines of the rows."""
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    return unit @ unit.T


def mpmath_sqrt(S, digits=50):
    """Symmetric square root with many digits."""
    with mpmath.workdps(digits):
        values, vectors = mpmath.eigsy(mpmath.matrix(np.asarray(S).tolist()))
        roots = mpmath.diag([mpmath.sqrt(abs(v)) for v in values])
        result = vectors * roots * vectors.T
        d = len(S)
        return np.array([[float(result[i, j]) for j in range(d)] for i in range(d)])


def mpmath_logdet(S, digits=50):
    """Natural logarithm of a determinant with many digits."""
    with mpmath.workdps(digits):
        return float(mpmath.log(mpmath.det(mpmath.matrix(np.asarray(S).tolist()))))
