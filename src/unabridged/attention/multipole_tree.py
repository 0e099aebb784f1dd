"""Balanced trees: points cut into blocks of one size, near points in one block.

Every cut halves a node at the median along its direction of largest variance, so all blocks hold
the same number of points, the tree needs no search, and products over blocks are dense.

Axes: G groups (heads), N points, C blocks, B points of a block, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["block_count", "group_count", "metric_root", "tree_order"]

_SQUARINGS = 4


def block_count(points: int, *, at_least: int) -> int:
    """The largest number of blocks m·2^j, 4 <= m < 8, with so many points in each.

    Fewer than four blocks' worth of points give 1, 2 or 3 blocks, and at least one.

    >>> block_count(2048, at_least=32), block_count(2000, at_least=32), block_count(9, at_least=64)
    (64, 56, 1)
    """
    wanted = max(1, points // at_least)
    halvings = max(0, wanted.bit_length() - 3)
    return wanted >> halvings << halvings


def group_count(points: int, *, at_most: int) -> int:
    """The least number of groups m·2^j, 4 <= m <= 8, with at most so many points in each.

    >>> group_count(2048, at_most=64), group_count(2100, at_most=64), group_count(9, at_most=64)
    (32, 40, 1)
    """
    wanted = -(-points // at_most)
    halvings = max(0, wanted.bit_length() - 3)
    return -(-wanted >> halvings) << halvings


def metric_root(points: Tensor) -> Tensor:
    """R (G, D, D) with R Rᵀ = E[x xᵀ] of points (G, N, D): y ↦ y R measures y as the points see it.

    The distance |(y - y') R|² is the mean square of x·(y - y'): what moving a key by that much
    does to its logits over all queries. It does not change when queries and keys change basis
    together.
    """
    second = points.transpose(1, 2) @ points / points.shape[1]
    values, vectors = torch.linalg.eigh(second)
    root: Tensor = vectors * values.clamp_min(0).sqrt()[:, None, :]
    return root


def tree_order(points: Tensor, blocks: int) -> Tensor:
    """An order (G, N) in which every run of N / blocks points is one leaf.

    Args:
        points: (G, N, D), N a multiple of `blocks`.
        blocks: C = m·2^j with m < 8; see `block_count`.

    The first cut makes m slabs, the later ones halves. A direction is a high power of the node's
    covariance times its farthest point: the leading eigenvector nearly, at the price of a few
    products, and turned with the points when they are turned.
    """
    groups, count, _ = points.shape
    order = torch.arange(count, device=points.device).expand(groups, count)
    slabs = blocks >> max(0, blocks.bit_length() - 3)
    nodes, cuts = 1, [slabs] + [2] * (blocks // slabs).bit_length()
    for parts in cuts:
        if nodes >= blocks:
            break
        points, order = _cut(points, order, nodes)
        nodes *= parts
    return order


def _cut(points: Tensor, order: Tensor, nodes: int) -> tuple[Tensor, Tensor]:
    """Sort every node along its own direction; equal runs of it are its children."""
    groups, count, width = points.shape
    inside = points.view(groups, nodes, count // nodes, width)
    along = _along_largest_variance(inside).argsort(dim=-1, stable=True)
    start = torch.arange(nodes, device=points.device)[:, None] * (count // nodes)
    rows = (along + start).view(groups, count)
    return points.gather(1, rows[..., None].expand(-1, -1, width)), order.gather(1, rows)


def _along_largest_variance(inside: Tensor) -> Tensor:
    """Coordinates (G, nodes, B) of points (G, nodes, B, D) along their nodes' directions."""
    centred = inside - inside.mean(2, keepdim=True)
    power = centred.transpose(2, 3) @ centred
    tiny = torch.finfo(power.dtype).tiny
    for _ in range(_SQUARINGS):
        power = power / power.diagonal(dim1=2, dim2=3).sum(-1).clamp_min(tiny)[..., None, None]
        power = power @ power
    farthest = centred.square().sum(-1).argmax(-1)[..., None, None]
    start = centred.gather(2, farthest.expand(*farthest.shape[:3], centred.shape[-1]))
    return (centred @ (power @ start.transpose(2, 3))).squeeze(-1)
