"""What all-pairs tables of dense Gaussians are made of: one factorization each, products for pairs.

The formulas here are the fast ones and cancel for pairs that nearly coincide, so every table comes
with a bound on its rounding; `pairwise` computes again the entries whose bound is too large.
Axis legend: N Gaussians p, M Gaussians q, d dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from unabridged.geometry._exact_products import congruence
from unabridged.geometry._roots import root
from unabridged.geometry._side_by_side import eigvalsh
from unabridged.geometry.gaussian import Gaussian

__all__ = [
    "Factored",
    "Table",
    "bhattacharyya_table",
    "blocks",
    "factored",
    "kl_table",
    "wasserstein2_table",
]

EPS = torch.finfo(torch.float64).eps
BLOCK_BYTES = 64 * 2**20
ILL = 1e5
"""Condition number above which a factor is corrected for its own rounding."""
PLAIN = 1e-6
"""Share of its variance that must lie outside another's support to settle that they differ."""


@dataclass(frozen=True)
class Table:
    """All-pairs values with a bound on their absolute rounding error, both (N, M) float64."""

    values: Tensor
    error: Tensor


@dataclass(frozen=True)
class Factored:
    """N Gaussians, each factored once.

    Attributes:
        mean: (N, d).
        covariance: (N, d, d).
        factor: (N, d, d), covariance = factor factor'.
        whitener: (N, d, d), inverse of the factor; zero where singular.
        log_determinant: (N,); NaN where singular, so that every density formula is doubtful there.
        size: (N,) Frobenius norm of the covariance.
        inverse_size: (N,) Frobenius norm of its inverse.
        rank: (N,), d where not singular. The columns of a singular factor are orthogonal, those
            that are zero come first.
    """

    mean: Tensor
    covariance: Tensor
    factor: Tensor
    whitener: Tensor
    log_determinant: Tensor
    size: Tensor
    inverse_size: Tensor
    rank: Tensor

    @property
    def thin_factor(self) -> Tensor:
        """(N, d, r): the factor without the columns that are zero in all."""
        rank = int(self.rank.max())
        return self.factor[..., self.factor.shape[-1] - rank :]

    @property
    def condition(self) -> Tensor:
        """(N,) condition number in the Frobenius norm."""
        return self.size * self.inverse_size

    @property
    def loss(self) -> Tensor:
        """(N,) bound on the relative error of quadratic forms in the inverse."""
        mended = self.condition.sqrt() + EPS * self.condition.square()
        return EPS * torch.where(self.condition > ILL, mended, self.condition)


def blocks(count: int, bytes_each: int) -> Iterator[slice]:
    """Slices of 0..count small enough that a block of things of that many bytes stays bounded."""
    width = max(1, BLOCK_BYTES // max(1, bytes_each))
    for start in range(0, count, width):
        yield slice(start, min(count, start + width))


def factored(gaussians: Gaussian) -> Factored:
    """Cholesky for all; an eigendecomposition for those that are singular."""
    covariance = gaussians.covariance
    factor, info = torch.linalg.cholesky_ex(covariance)
    pivots = factor.diagonal(dim1=-2, dim2=-1)
    singular = (info != 0) | ~(pivots.square().amin(-1) > 16 * EPS * pivots.square().amax(-1))
    eye = torch.eye(covariance.shape[-1], dtype=covariance.dtype, device=covariance.device)
    safe = torch.where(singular[:, None, None], eye, factor)
    whitener = torch.linalg.solve_triangular(safe, eye.expand_as(safe), upper=False)
    whitener = torch.where(singular[:, None, None], 0.0, whitener)
    logs = 2 * safe.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    rank = torch.full_like(info, covariance.shape[-1])
    if bool(singular.any()):
        roots = root(covariance[singular], torch.zeros_like(covariance[singular]))
        safe[singular], rank[singular] = roots.factor, roots.rank.to(rank.dtype)
    size, inverse_size = torch.linalg.matrix_norm(covariance), _squared_norm(whitener)
    ill = ~singular & (size * inverse_size > ILL)
    if bool(ill.any()):
        whitener[ill], correction = _sharpened(whitener[ill], covariance[ill])
        logs[ill] += correction
    logs = torch.where(singular, torch.nan, logs)
    return Factored(gaussians.mean, covariance, safe, whitener, logs, size, inverse_size, rank)


def _squared_norm(whitener: Tensor) -> Tensor:
    """(N,) Frobenius norm of M'M."""
    norm: Tensor = torch.linalg.matrix_norm(whitener @ whitener.mT)
    return norm


def _sharpened(whitener: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor]:
    """M less half its defect W = M S M' - I times M, and what W adds to the log-determinant."""
    eye = torch.eye(whitener.shape[-1], dtype=whitener.dtype, device=whitener.device)
    defect = congruence(whitener, covariance, whitener) - eye
    return whitener - defect @ whitener / 2, defect.diagonal(dim1=-2, dim2=-1).sum(-1)


def _apart(p: Factored, q: Factored) -> Tensor:
    """(N, M) pairs that plainly live on different flats; their densities do not compare."""
    apart = p.rank.unsqueeze(1) != q.rank
    d = p.mean.shape[-1]
    i, j = (p.rank < d).nonzero().squeeze(1), (q.rank < d).nonzero().squeeze(1)
    whole = p.covariance[i].diagonal(dim1=-2, dim2=-1).sum(-1)
    for block in blocks(len(j), 8 * 3 * d * d):
        columns = torch.nn.functional.normalize(q.factor[j[block]], dim=-2)
        projector = columns @ columns.mT
        inside = p.covariance[i].flatten(1) @ projector.flatten(1).mT
        spilled = whole.unsqueeze(1) - inside > PLAIN * whole.unsqueeze(1)
        apart[i.unsqueeze(1), j[block]] |= spilled
    return apart


def _with_density(p: Factored, q: Factored, values: Tensor, error: Tensor) -> Table:
    """A table of a divergence of densities: inf, and no doubt, where supports plainly differ."""
    apart = _apart(p, q)
    return Table(values.masked_fill(apart, torch.inf), error.masked_fill(apart, 0.0))


def kl_table(p: Factored, q: Factored) -> Table:
    """KL(p_i | q_j) from one Gram product of covariances and inverses."""
    d = p.mean.shape[-1]
    trace = p.covariance.new_empty(len(p.mean), len(q.mean))
    moved = torch.empty_like(trace)
    for block in blocks(len(q.mean), 8 * d * (2 * d + len(p.mean))):
        whitener = q.whitener[block]
        inverse = whitener.mT @ whitener
        trace[:, block] = p.covariance.flatten(1) @ inverse.flatten(1).mT
        delta = p.mean - q.mean[block].unsqueeze(1)  # (block, N, d)
        moved[:, block] = (delta @ whitener.mT).square().sum(-1).mT
    logs = p.log_determinant.unsqueeze(1) - q.log_determinant
    values = (trace - d - logs + moved) / 2
    rounding = p.size.unsqueeze(1) * q.inverse_size + logs.abs() + d
    lost = p.loss.unsqueeze(1) + q.loss * (1 + trace.abs() + moved)
    return _with_density(p, q, values, 4 * EPS * rounding + lost)


def bhattacharyya_table(p: Factored, q: Factored, *, upper: bool = False) -> Table:
    """BD(p_i, q_j) from a Cholesky factor of the mean covariance; with `upper` only for j >= i."""
    d = p.mean.shape[-1]
    logs = p.covariance.new_zeros(len(p.mean), len(q.mean))
    moved = torch.zeros_like(logs)
    for i in range(len(p.mean)):
        first = i if upper else 0
        for part in blocks(len(q.mean) - first, 8 * 2 * d * d):
            block = slice(first + part.start, first + part.stop)
            factor, _ = torch.linalg.cholesky_ex((p.covariance[i] + q.covariance[block]) / 2)
            logs[i, block] = 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
            delta = (p.mean[i] - q.mean[block]).unsqueeze(-1)
            whitened = torch.linalg.solve_triangular(factor, delta, upper=False)
            moved[i, block] = whitened.square().sum((-2, -1))
    p_logs, q_logs = p.log_determinant.unsqueeze(1), q.log_determinant
    values = logs / 2 - (p_logs + q_logs) / 4 + moved / 8
    inverse_size = torch.minimum(p.inverse_size.unsqueeze(1), q.inverse_size)
    condition = (p.size.unsqueeze(1) + q.size) * inverse_size
    rounding = condition * (1 + moved) + logs.abs() + p_logs.abs() + q_logs.abs()
    error = 4 * EPS * rounding + p.loss.unsqueeze(1) + q.loss
    return _with_density(p, q, values, error)


def wasserstein2_table(p: Factored, q: Factored, *, upper: bool = False) -> Table:
    """W2^2(p_i, q_j) from the eigenvalues of B'B, B = Lq' Lp; with `upper` only for j >= i."""
    d = p.mean.shape[-1]
    values = p.covariance.new_zeros(len(p.mean), len(q.mean))
    error = torch.zeros_like(values)
    left, right = p.thin_factor, q.thin_factor
    p_trace = p.covariance.diagonal(dim1=-2, dim2=-1).sum(-1)
    q_trace = q.covariance.diagonal(dim1=-2, dim2=-1).sum(-1)
    for i in range(len(p.mean)):
        first = i if upper else 0
        for block in blocks(len(q.mean) - first, 8 * 3 * d * d):
            chosen = slice(first + block.start, first + block.stop)
            nuclear, rounding = nuclear_norm(right[chosen].mT @ left[i])
            whole = p_trace[i] + q_trace[chosen]
            moved = (p.mean[i] - q.mean[chosen]).square().sum(-1)
            values[i, chosen] = moved + whole - 2 * nuclear
            error[i, chosen] = 2 * rounding + 8 * EPS * (whole + moved)
    return Table(values, error)


def nuclear_norm(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of singular values (...) by eigenvalues of the square, and the rounding in it."""
    wide = matrix.shape[-1] > matrix.shape[-2]
    gram = matrix @ matrix.mT if wide else matrix.mT @ matrix
    squares = eigvalsh(gram).clamp_min(0)
    largest = squares[..., -1:]
    singular = squares.sqrt()
    least = torch.maximum(singular, (EPS * largest).sqrt())
    rounding = 2 * EPS * (largest / least.clamp_min(torch.finfo(torch.float64).tiny)).sum(-1)
    return singular.sum(-1), rounding
