"""Balanced trees: points cut into blocks of one size, near points in one block.

Every cut halves a node at the median along its direction of largest variance, so all blocks hold
the same number of points, the tree needs no search, and products over blocks are dense.

Axes: G heads, N points, D width, R leading coordinates.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

__all__ = ["block_count", "coordinates", "group_count", "rows", "tree_order"]

_SQUARINGS = 4
_LEADING = 8
"""Coordinates that cuts are made along; a tree of 1,024 leaves makes ten cuts."""


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


def coordinates(points: Tensor, seen_by: Tensor) -> Tensor:
    """The leading coordinates (G, N, R) of points (G, N, D), as others (G, M, D) see them.

    The squared distance of two points is the mean square of x·(y - y') over the others x: what
    moving a key by that much does to its logits over all queries, or a query over all keys. It
    does not change when queries and keys change basis together. Of these coordinates the ones
    along which the points vary most are kept.
    """
    root = _root(_second(seen_by))
    mean = points.mean(1, keepdim=True)
    inside = _second(points) - mean.transpose(1, 2) @ mean
    vectors = torch.linalg.eigh(root.transpose(1, 2) @ inside @ root)[1]
    projection: Tensor = root @ vectors[..., -_LEADING:]
    return points @ projection - mean @ projection


def tree_order(points: Tensor, blocks: int) -> Tensor:
    """An order (G, N) in which every run of N / blocks points is one leaf.

    Args:
        points: (G, N, R), N a multiple of `blocks`.
        blocks: C = m·2^j with m <= 8; see `block_count` and `group_count`.

    The first cut makes m slabs, the later ones halves. A direction is the longest column of a high
    power of the node's covariance: the leading eigenvector nearly, at the price of a few products.
    """
    groups, count, _ = points.shape
    order = torch.arange(count, device=points.device).expand(groups, count)
    slabs = blocks >> max(0, blocks.bit_length() - 3)
    nodes, cuts = 1, [slabs] + [2] * (blocks // slabs).bit_length()
    for parts in cuts:
        if nodes >= blocks:
            break
        points, order = _cut(points, order, nodes, parts)
        nodes *= parts
    return order


def rows(table: Tensor, index: Tensor) -> Tensor:
    """Rows (G, M, W) of (G, N, W) by (G, M)."""
    groups, count, width = table.shape
    start = count * torch.arange(groups, device=index.device)[:, None]
    chosen = table.reshape(-1, width).index_select(0, (index + start).flatten())
    return chosen.view(groups, -1, width)


def _cut(points: Tensor, order: Tensor, nodes: int, parts: int) -> tuple[Tensor, Tensor]:
    """Cut every node across its own direction into equal parts, which stand one after another."""
    groups, count, width = points.shape
    size = count // nodes
    along = _along_largest_variance(points.view(groups, nodes, size, width))
    # numpy selects: 200,000 numbers take it 0.3 ms, and torch, which would sort them, 10 ms.
    borders = [size * part // parts for part in range(1, parts)]
    apart = torch.from_numpy(np.argpartition(along.cpu().numpy(), borders, axis=-1))
    start = torch.arange(nodes, device=points.device)[:, None] * size
    index = (apart.to(points.device) + start).view(groups, count)
    return rows(points, index), order.gather(1, index)


def _along_largest_variance(inside: Tensor) -> Tensor:
    """Coordinates (G, nodes, B) of points (G, nodes, B, R) along their nodes' directions."""
    mean = inside.mean(2, keepdim=True)
    power = inside.transpose(2, 3) @ inside / inside.shape[2] - mean.transpose(2, 3) @ mean
    tiny = torch.finfo(power.dtype).tiny
    for _ in range(_SQUARINGS):
        power = power / power.diagonal(dim1=2, dim2=3).sum(-1).clamp_min(tiny)[..., None, None]
        power = power @ power
    longest = power.diagonal(dim1=2, dim2=3).argmax(-1)[..., None, None]
    direction = power.gather(3, longest.expand(*longest.shape[:2], power.shape[-1], 1))
    return (inside @ direction).squeeze(-1)


def _second(points: Tensor) -> Tensor:
    return points.transpose(1, 2) @ points / points.shape[1]


def _root(second: Tensor) -> Tensor:
    """R (G, D, D) with R Rᵀ = second."""
    values, vectors = torch.linalg.eigh(second)
    root: Tensor = vectors * values.clamp_min(0).sqrt()[:, None, :]
    return root
