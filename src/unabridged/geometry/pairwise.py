"""All-pairs tables between two sets of Gaussians: factor each once, then products."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeVar, get_args

import torch
from torch import Tensor

from unabridged.geometry._covariances import Diagonal
from unabridged.geometry._diagonal import (
    diagonal_bhattacharyya,
    diagonal_jeffreys,
    diagonal_kl,
    diagonal_wasserstein2,
)
from unabridged.geometry._gradients import safe_sqrt
from unabridged.geometry._low_rank import is_thin
from unabridged.geometry._pairs import check_same_space
from unabridged.geometry._tables import (
    Table,
    bhattacharyya_table,
    blocks,
    factored,
    kl_table,
    wasserstein2_table,
)
from unabridged.geometry._thin_tables import (
    diagonal_table,
    spans_little,
    thin_kl_table,
    thin_wasserstein2_table,
)
from unabridged.geometry.divergences import bhattacharyya, hellinger, jeffreys, kl
from unabridged.geometry.gaussian import Gaussian, GaussianLike, as_gaussian
from unabridged.geometry.transport import wasserstein2

__all__ = ["Metric", "pairwise"]

Parts = TypeVar("Parts")
Metric = Literal["kl", "jeffreys", "bhattacharyya", "hellinger", "wasserstein2"]

WANTED = 5e-10
"""Relative error above which an entry is computed again by the function for single pairs."""

SINGLE = {
    "kl": kl,
    "jeffreys": jeffreys,
    "bhattacharyya": bhattacharyya,
    "hellinger": hellinger,
    "wasserstein2": wasserstein2,
}
COORDINATES = {
    "kl": diagonal_kl,
    "jeffreys": diagonal_jeffreys,
    "bhattacharyya": diagonal_bhattacharyya,
    "wasserstein2": diagonal_wasserstein2,
}


def pairwise(P: GaussianLike, Q: GaussianLike, metric: Metric = "wasserstein2") -> Tensor:
    """The table metric(P_i, Q_j) for all pairs, equal to the function of that name on each pair.

    Every Gaussian is factored once and pairs cost matrix products: KL one Gram product,
    Bhattacharyya a Cholesky factorization, W2 one product and eigenvalues; low rank + diagonal
    goes by Woodbury (KL, Jeffreys) or in the joint span of the factors (W2, where the diagonal is
    isotropic); diagonal pairs cost O(d). Pairs too close for these formulas are found by a bound on
    their rounding and computed again singly: nearly coincident Gaussians cost more. Pass the same
    object twice and a symmetric metric is computed once a pair. Memory beyond factors and result is
    bounded by blocks, whatever N and M. With gradients wanted, the single-pair functions run on
    blocks of rows.

    Args:
        P: batch shape (N,).
        Q: batch shape (M,).
        metric: the name of a function of this room.

    Returns:
        (N, M) in the caller's dtype.

    Raises:
        TypeError: if an argument is not Gaussian, or dtypes or devices differ.
        ValueError: if a batch is not one-dimensional, dimensions differ, or the metric is unknown.

    >>> P = Gaussian.diagonal(torch.tensor([[0.0], [3.0]]), torch.tensor([[1.0], [4.0]]))
    >>> pairwise(P, P)
    tensor([[ 0., 10.],
            [10.,  0.]])
    """
    p, q = (
        as_gaussian(argument, caller="pairwise", name=name)
        for name, argument in (("p", P), ("q", Q))
    )
    _check(p, q, metric)
    if torch.is_grad_enabled() and (_wants_gradient(p) or _wants_gradient(q)):
        return _differentiable(p, q, metric)
    with torch.no_grad():
        left, right = p.to(torch.float64), q.to(torch.float64)
        return _values(left, right, metric, same=P is Q).to(p.dtype)


def _check(p: Gaussian, q: Gaussian, metric: str) -> None:
    for name, gaussian in (("P", p), ("Q", q)):
        if len(gaussian.batch_shape) != 1:
            raise ValueError(
                f"pairwise: {name} has batch shape {tuple(gaussian.batch_shape)}; it must be (N,), "
                "so stack the Gaussians along one axis."
            )
    check_same_space(p, q, caller="pairwise")
    if metric not in get_args(Metric):
        raise ValueError(
            f"pairwise: metric is {metric!r}; it must be one of {', '.join(get_args(Metric))}, "
            "so pass one of these."
        )


def _wants_gradient(gaussian: Gaussian) -> bool:
    return gaussian.mean.requires_grad or gaussian.structure.variance().requires_grad


def _differentiable(p: Gaussian, q: Gaussian, metric: Metric) -> Tensor:
    if not len(p) or not len(q):
        return p.mean.new_zeros(len(p), len(q))
    return torch.cat([SINGLE[metric](p[i : i + 1], q) for i in range(len(p))]).reshape(len(p), -1)


def _values(p: Gaussian, q: Gaussian, metric: Metric, *, same: bool) -> Tensor:
    """The table in float64; `same` says that p and q are one set."""
    if not len(p) or not len(q):
        return p.mean.new_zeros(len(p), len(q))
    if metric == "hellinger":
        return safe_sqrt(-torch.expm1(-_values(p, q, "bhattacharyya", same=same)))
    table = _table(p, q, metric, same=same)
    doubtful = ~(table.error <= WANTED * table.values)
    if same:
        doubtful.fill_diagonal_(False)
        table.values.fill_diagonal_(0.0)
    halved = same and metric != "kl"
    if halved:
        doubtful = doubtful.triu()
    values = _mended(p, q, table.values, doubtful, metric)
    return values.triu() + values.triu(1).mT if halved else values


def _table(p: Gaussian, q: Gaussian, metric: Metric, *, same: bool) -> Table:
    """The fast formula for this metric and these structures."""
    if isinstance(p.structure, Diagonal) and isinstance(q.structure, Diagonal):
        return diagonal_table(p, q, COORDINATES[metric])
    if metric == "wasserstein2" and spans_little(p, q):
        return thin_wasserstein2_table(p, q, upper=same)
    if metric in ("kl", "jeffreys") and is_thin(p) and is_thin(q):
        return _both_ways(p, q, thin_kl_table, metric, same=same)
    left = factored(p)
    right = left if same else factored(q)
    if metric == "wasserstein2":
        return wasserstein2_table(left, right, upper=same)
    if metric == "bhattacharyya":
        return bhattacharyya_table(left, right, upper=same)
    return _both_ways(left, right, kl_table, metric, same=same)


def _both_ways(
    p: Parts, q: Parts, kl_of: Callable[[Parts, Parts], Table], metric: Metric, *, same: bool
) -> Table:
    """KL(p | q), and for Jeffreys' divergence the other direction added to it."""
    there = kl_of(p, q)
    if metric == "kl":
        return there
    back = there if same else kl_of(q, p)
    return Table(there.values + back.values.mT, there.error + back.error.mT)


def _mended(p: Gaussian, q: Gaussian, values: Tensor, doubtful: Tensor, metric: Metric) -> Tensor:
    """The table with its doubtful entries computed again, pair by pair, in blocks."""
    rows, columns = doubtful.nonzero(as_tuple=True)
    for block in blocks(len(rows), 8 * 40 * p.dimension**2):
        i, j = rows[block], columns[block]
        values[i, j] = SINGLE[metric](p[i], q[j])
    return values
