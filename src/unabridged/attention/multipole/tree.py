"""Balanced trees: points cut into leaves of one size, near points in one leaf.

Every cut halves a node at the median along its direction of largest variance, so all leaves hold
the same number of points, the tree needs no search, and products over leaves are dense. A tree is
cut as deep as somebody asks, so that whoever needs eight leaves does not pay for a thousand.

Axes: N points, D width, R leading coordinates.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

__all__ = ["Tree", "block_count", "coordinates", "group_count"]

_SQUARINGS = 4
_LEADING = 8
"""Coordinates that cuts are made along; a tree of 1,024 leaves makes ten cuts."""


class Tree:
    """Points in leaves of one size, cut finer on demand.

    Attributes:
        counts: numbers of leaves that can be had, ascending, each twice the one before.

    >>> tree = Tree(torch.tensor([[4.0], [1.0], [3.0], [2.0]]), 2)
    >>> tree.order(2).view(2, 2).sort().values.tolist()
    [[1, 3], [0, 2]]
    """

    def __init__(self, points: Tensor, finest: int) -> None:
        """Nothing is cut yet.

        Args:
            points: (N, R), N a multiple of `finest`.
            finest: the largest number of leaves, m·2^j with m <= 8; see `block_count`.
        """
        halvings = max(0, finest.bit_length() - 3)
        self.counts = tuple(finest >> halvings << j for j in range(halvings + 1))
        self._points = points
        self._order = torch.arange(len(points), device=points.device)
        self._leaves = 1

    def order(self, leaves: int) -> Tensor:
        """(N,): an order of the points in which each run of N / leaves of them is one leaf.

        Finer orders asked for earlier are fine too: their leaves lie inside these.

        Args:
            leaves: one of `counts`.
        """
        for count in self.counts:
            if self._leaves < count <= leaves:
                self._cut(count // self._leaves)
        return self._order

    def _cut(self, parts: int) -> None:
        """Cut every leaf across its own direction into equal parts, which stand in a row."""
        count, width = self._points.shape
        size = count // self._leaves
        along = _along_largest_variance(self._points.view(self._leaves, size, width))
        # numpy selects: 200,000 numbers take it 0.3 ms, and torch, which would sort them, 10 ms.
        borders = [size * part // parts for part in range(1, parts)]
        apart = torch.from_numpy(np.argpartition(along.cpu().numpy(), borders, axis=-1))
        start = torch.arange(self._leaves)[:, None] * size
        index = (apart + start).flatten().to(self._order.device)
        self._points, self._order = self._points[index], self._order[index]
        self._leaves *= parts


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
    """The leading coordinates (N, R) of points (N, D), as others (M, D) see them.

    The squared distance of two points is the mean square of x·(y - y') over the others x: what
    moving a key by that much does to its logits over all queries, or a query over all keys. It
    does not change when queries and keys change basis together. Of these coordinates the ones
    along which the points vary most are kept, each with the sign that makes its skewness positive,
    so that neither a change of basis nor the library decides which side is called left.
    """
    root = _root(_second(seen_by))
    mean = points.mean(0, keepdim=True)
    inside = _second(points) - mean.T @ mean
    vectors = torch.linalg.eigh(root.T @ inside @ root)[1]
    projection = root @ vectors[:, -_LEADING:]
    found = points @ projection - mean @ projection
    skewness = (found * found.square()).sum(0)
    signed: Tensor = found * torch.where(skewness < 0, -1.0, 1.0).to(found.dtype)
    return signed


def _along_largest_variance(inside: Tensor) -> Tensor:
    """Coordinates (nodes, B) of points (nodes, B, R) along their nodes' directions.

    A direction is the longest column of a high power of the node's covariance: the leading
    eigenvector nearly, at the price of a few products.
    """
    mean = inside.mean(1, keepdim=True)
    power = inside.mT @ inside / inside.shape[1] - mean.mT @ mean
    tiny = torch.finfo(power.dtype).tiny
    for _ in range(_SQUARINGS):
        power = power / power.diagonal(dim1=1, dim2=2).sum(-1).clamp_min(tiny)[:, None, None]
        power = power @ power
    longest = power.diagonal(dim1=1, dim2=2).argmax(-1)[:, None, None]
    direction = power.gather(2, longest.expand(-1, power.shape[-1], 1))
    return (inside @ direction).squeeze(-1)


def _second(points: Tensor) -> Tensor:
    return points.T @ points / len(points)


def _root(second: Tensor) -> Tensor:
    """R (D, D) with R Rᵀ = second."""
    values, vectors = torch.linalg.eigh(second)
    root: Tensor = vectors * values.clamp_min(0).sqrt()
    return root
