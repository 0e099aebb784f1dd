"""Slow, obvious versions of projections, sign codes and truncated factorisations."""

from __future__ import annotations

import itertools

import numpy as np
import scipy.linalg
import scipy.stats


def hadamard_projection(signs, chosen, width, columns, dimension):
    """The matrix sqrt(1/n) R H D of a sampled Hadamard projection, from scipy's Hadamard matrix."""
    full = scipy.linalg.hadamard(width) * signs
    return full[chosen][:, :columns] / np.sqrt(dimension)


def chi_square_tails(dimension, eps):
    """P(|chi2/n - 1| >= eps) by scipy."""
    law = scipy.stats.chi2(dimension)
    return law.cdf(dimension * (1 - eps)) + law.sf(dimension * (1 + eps))


def least_dimension(points, eps, failure):
    """Least n whose union bound holds, by trying every n."""
    pairs = points * (points - 1) / 2
    return next(n for n in itertools.count(1) if pairs * chi_square_tails(n, eps) <= failure)


def coordinate_tail(t, dimension):
    """P(x_1 >= t) on the sphere, through Student's law."""
    freedom = dimension - 1
    return scipy.stats.t(freedom).sf(t * np.sqrt(freedom / (1 - t * t)))


def code_values(levels, bits):
    """The odd numbers that levels stand for."""
    return 2 * levels.astype(np.int64) + 1 - 2**bits


def inner_products_of_codes(levels, query_levels, bits, query_bits):
    """Inner products of two kinds of codes, by multiplication."""
    return code_values(levels, bits) @ code_values(query_levels, query_bits)


def best_error(M, rank):
    """Frobenius norm of M minus its best approximation of that rank."""
    return float(np.sqrt((np.linalg.svd(M, compute_uv=False)[rank:] ** 2).sum()))


def matrix_with_spectrum(rows, columns, values, seed):
    """A matrix with these singular values and random singular vectors."""
    rng = np.random.default_rng(seed)
    U = np.linalg.qr(rng.standard_normal((rows, len(values))))[0]
    V = np.linalg.qr(rng.standard_normal((columns, len(values))))[0]
    return (U * values) @ V.T
