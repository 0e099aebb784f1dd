"""All-pairs tables of Gaussians that are diagonal or low rank + diagonal, without d x d matrices.

Same contract as `_tables`: values and a bound on their rounding. Axis legend: N Gaussians p,
M Gaussians q, d dimensions, r rank.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from unabridged.geometry._covariances import LowRank
from unabridged.geometry._low_rank import Woodbury, woodbury
from unabridged.geometry._tables import EPS, Table, blocks, nuclear_norm
from unabridged.geometry.gaussian import Gaussian

__all__ = ["diagonal_table", "spans_little", "thin_kl_table", "thin_wasserstein2_table"]

Rule = Callable[[Tensor, Tensor, Tensor], Tensor]


def diagonal_table(p: Gaussian, q: Gaussian, rule: Rule) -> Table:
    """Any distance of diagonal Gaussians; nothing cancels, so the bound is zero."""
    values = p.mean.new_empty(len(p), len(q))
    for i in blocks(len(p), 8 * 12 * p.dimension * max(1, len(q))):
        delta = p.mean[i].unsqueeze(1) - q.mean
        values[i] = rule(p.variance[i].unsqueeze(1), q.variance, delta)
    return Table(values, torch.zeros_like(values))


def thin_kl_table(p: Gaussian, q: Gaussian) -> Table:
    """KL(p_i | q_j) by Woodbury: four matrix products and one r x r block a pair."""
    left, right = woodbury(p), woodbury(q)
    inverse_variances = 1 / right.variances
    whole = p.variance @ inverse_variances.mT
    by_diagonal = left.variances @ right.a.square().sum(-1).mT
    by_factor = _mixed_squares(left, right)
    straight, turned = _mean_terms(p.mean, q.mean, inverse_variances, right.a)
    logs = left.log_determinant.unsqueeze(1) - right.log_determinant
    trace = whole - by_diagonal - by_factor
    values = (trace - p.dimension - logs + straight - turned) / 2
    sizes = left.log_determinant.abs().unsqueeze(1) + right.log_determinant.abs()
    dwarfing = torch.maximum(left.dwarfing.unsqueeze(1), right.dwarfing)
    return Table(values, 8 * EPS * (whole + straight + p.dimension + sizes) * dwarfing)


def _mixed_squares(p: Woodbury, q: Woodbury) -> Tensor:
    """(N, M) |A_j' U_i|_F^2, in blocks of q."""
    count, d, r = p.factor.shape
    result = p.factor.new_zeros(count, len(q.a))
    if 0 in (r, q.a.shape[-1]):
        return result
    columns = p.factor.permute(1, 0, 2).reshape(d, count * r)
    for block in blocks(len(q.a), 8 * q.a.shape[-1] * (count * r + d)):
        rows = q.a[block].mT.reshape(-1, d)  # (block r, d)
        squares = (rows @ columns).square().reshape(-1, q.a.shape[-1], count, r)
        result[:, block] = squares.sum((1, 3)).mT
    return result


def _mean_terms(
    p: Tensor, q: Tensor, inverse_variances: Tensor, a: Tensor
) -> tuple[Tensor, Tensor]:
    """(N, M) sum delta^2 / v and |A' delta|^2, the differences formed first."""
    straight = p.new_empty(len(p), len(q))
    turned = torch.empty_like(straight)
    for block in blocks(len(q), 8 * 3 * p.numel()):
        delta = p - q[block].unsqueeze(1)  # (block, N, d)
        weighted = delta.square() @ inverse_variances[block].unsqueeze(-1)
        straight[:, block] = weighted.squeeze(-1).mT
        turned[:, block] = (delta @ a[block]).square().sum(-1).mT
    return straight, turned


def spans_little(p: Gaussian, q: Gaussian) -> bool:
    """Whether all are low rank + a multiple of I, and any two factors span less than the space."""
    parts = p.structure, q.structure
    if not all(isinstance(part, LowRank) for part in parts):
        return False
    ranks = sum(part.factor.shape[-1] for part in parts if isinstance(part, LowRank))
    return ranks < p.dimension and all(
        bool((part.variances == part.variances[..., :1]).all())
        for part in parts
        if isinstance(part, LowRank)
    )


def thin_wasserstein2_table(p: Gaussian, q: Gaussian, *, upper: bool = False) -> Table:
    """W2^2 of U U' + a I, exactly, in the space that both factors span.

    Outside that space the two are spheres, sqrt(a_p) and sqrt(a_q) wide.
    """
    values = p.mean.new_zeros(len(p), len(q))
    error = torch.zeros_like(values)
    p_factor, p_width = _parts(p)
    q_factor, q_width = _parts(q)
    joint = p_factor.shape[-1] + q_factor.shape[-1]
    for i in range(len(p)):
        first = i if upper else 0
        for block in blocks(len(q) - first, 8 * joint * (3 * p.dimension + 4 * joint)):
            chosen = slice(first + block.start, first + block.stop)
            widths = p_width[i], q_width[chosen]
            nuclear, rounding = _joint_norm(p_factor[i], q_factor[chosen], *widths)
            whole = p.variance[i].sum() + q.variance[chosen].sum(-1)
            moved = (p.mean[i] - q.mean[chosen]).square().sum(-1)
            values[i, chosen] = moved + whole - 2 * nuclear
            error[i, chosen] = 2 * rounding + 8 * EPS * (whole + moved)
    return Table(values, error)


def _parts(gaussians: Gaussian) -> tuple[Tensor, Tensor]:
    """Factors (N, d, r) and the square roots (N,) of the isotropic variances."""
    structure = gaussians.structure
    assert isinstance(structure, LowRank)
    factor = structure.factor.expand(*gaussians.mean.shape, -1)
    return factor, structure.variances.expand(gaussians.mean.shape)[:, 0].sqrt()


def _joint_norm(
    p_factor: Tensor, q_factor: Tensor, p_width: Tensor, q_width: Tensor
) -> tuple[Tensor, Tensor]:
    """Nuclear norm of Lp'Lq for one p and a block of q, and its rounding."""
    if not bool((p_width > 0) | (q_width > 0).any()):
        singular = torch.linalg.svdvals(p_factor.mT @ q_factor)
        return singular.sum(-1), 8 * EPS * singular[..., :1].sum(-1) * singular.shape[-1]
    rank, d = p_factor.shape[-1], p_factor.shape[-2]
    both = torch.cat([p_factor.expand(len(q_factor), -1, -1), q_factor], dim=-1)
    coordinates = torch.linalg.qr(both, mode="r").R  # (block, m, m)
    p_root = _square_root(coordinates[..., :rank], p_width.expand(len(q_factor)))
    q_root = _square_root(coordinates[..., rank:], q_width)
    nuclear, rounding = nuclear_norm(q_root.mT @ p_root)
    outside = max(0, d - both.shape[-1]) * p_width * q_width
    return nuclear + outside, rounding


def _square_root(factor: Tensor, width: Tensor) -> Tensor:
    """(block, m, m) L with L L' = factor factor' + width^2 I; Cholesky unless that is singular."""
    eye = torch.eye(factor.shape[-2], dtype=factor.dtype, device=factor.device)
    sphere = width.square()[:, None, None] * eye
    root: Tensor
    root, info = torch.linalg.cholesky_ex(factor @ factor.mT + sphere)
    if not bool(info.any()):
        return root
    left, singular, _ = torch.linalg.svd(factor, full_matrices=True)
    missing = left.shape[-1] - singular.shape[-1]
    squares = torch.nn.functional.pad(singular.square(), (0, missing))
    scaled: Tensor = left * (squares + width.square().unsqueeze(-1)).sqrt().unsqueeze(-2)
    return scaled
