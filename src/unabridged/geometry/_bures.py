"""The Bures displacement: how one covariance moves into another under optimal transport.

The optimal map from q to p is T = I + K with T Sq T = Sp. With the factor L of Sq, H = L'L and
N = L'KL this is the Riccati equation

    N H + H N + N^2 = L' D L,   D = Sp - Sq,   and   W2^2 = |L^-T N|_F^2 + tr(Sp outside supp q),

in which every term shrinks with D: nothing cancels as p approaches q. (The textbook trace formula
loses all digits there, the Procrustes residual half of them.)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unabridged.geometry._roots import Root, symmetric

__all__ = ["Displacement", "bures_value", "displacement"]

NEAR = 0.25
ITERATIONS = 60
REFINEMENTS = 4
FLOOR = 1e-7
"""Share of the largest singular value below which a division would add more noise than it removes;
pairs up to condition number 1e12 stay above it, and below it the polar factor is exact enough."""


@dataclass(frozen=True)
class Displacement:
    """The solution of the Riccati equation, in the eigenbasis of q.

    Attributes:
        n: (..., d, d) N = L'KL.
        squared: (...) W2^2 of the covariances.
    """

    n: Tensor
    squared: Tensor


def _residual(values: Tensor, right: Tensor, n: Tensor) -> Tensor:
    """L'DL - (NH + HN + N^2), with H = diag(values)."""
    return right - (values.unsqueeze(-1) + values.unsqueeze(-2)) * n - n @ n


def _near(q: Root, right: Tensor) -> Tensor:
    """Fixed point of N -> (right - N^2) / (h_i + h_j), a contraction for small differences."""
    weights = q.values.unsqueeze(-1) + q.values.unsqueeze(-2)
    divide = torch.where(weights > 0, 1 / weights, 0.0)
    scale = q.inverse_values.sqrt()
    scale = scale.unsqueeze(-1) * scale.unsqueeze(-2)
    n: Tensor = right * divide
    for _ in range(ITERATIONS):
        step = _residual(q.values, right, n) * divide
        n = n + step
        moved = torch.linalg.matrix_norm(step * scale)
        if bool((moved <= 1e-16 * torch.linalg.matrix_norm(n * scale)).all()):
            break
    return symmetric(n)


def _far(p: Root, q: Root, right: Tensor) -> Tensor:
    """G = H + N is the polar factor of Lq'Lp; two or more Newton steps sharpen N = G - H."""
    basis, gamma, _ = torch.linalg.svd(q.factor.mT @ p.factor)
    n: Tensor = (basis * gamma.unsqueeze(-2)) @ basis.mT - torch.diag_embed(q.values)
    weights = gamma.unsqueeze(-1) + gamma.unsqueeze(-2)
    floor = FLOOR * gamma[..., :1].unsqueeze(-1)
    divide = torch.where(weights > floor, 1 / weights, 0.0)
    for _ in range(REFINEMENTS):
        residual = basis.mT @ _residual(q.values, right, n) @ basis
        n = symmetric(n + basis @ (residual * divide) @ basis.mT)
    return n


def displacement(p: Root, q: Root, difference: Tensor) -> Displacement:
    """Solve for N and evaluate W2^2, for a flat batch (B, d, d)."""
    rotated = q.vectors.mT @ difference @ q.vectors
    roots = q.values.sqrt()
    right = symmetric(roots.unsqueeze(-1) * rotated * roots.unsqueeze(-2))
    inverse = q.inverse_values
    relative = torch.linalg.matrix_norm(inverse.unsqueeze(-1) * right * inverse.unsqueeze(-2))
    near = relative <= NEAR
    n = torch.zeros_like(right)
    if bool(near.any()):
        n[near] = _near(_pick(q, near), right[near])
    if not bool(near.all()):
        n[~near] = _far(_pick(p, ~near), _pick(q, ~near), right[~near])
    return Displacement(n, bures_value(q, n, rotated))


def bures_value(q: Root, n: Tensor, rotated: Tensor) -> Tensor:
    """W2^2 from N; `rotated` is the difference of the covariances in the eigenbasis of q."""
    squared = (n.square() * q.inverse_values.unsqueeze(-1)).sum((-2, -1))
    outside = torch.where(q.support, 0.0, rotated.diagonal(dim1=-2, dim2=-1)).sum(-1)
    scale = q.inverse_values.sqrt()
    relative = scale.unsqueeze(-1) * n * scale.unsqueeze(-2)  # H^-1/2 N H^-1/2
    g = relative + torch.diag_embed(q.support.to(n.dtype))
    inverse = torch.linalg.pinv(g, rtol=0.1 * FLOOR, hermitian=True)
    moved = n * scale.unsqueeze(-2)
    defect = moved.mT @ q.defect @ moved
    correction: Tensor = (inverse * defect).sum((-2, -1))
    return squared + outside.clamp_min(0) - correction


def _pick(of: Root, where: Tensor) -> Root:
    """The Gaussians of a flat batch at which a mask holds."""
    fields = (of.head, of.tail, of.values, of.vectors, of.support)
    return Root(*(field[where] for field in fields))
