"""Sums over log features, stabilised from both sides, in tiles that stay in the cache.

For log features a_ir of queries and b_jr of keys,

    out_i = Σ_r Σ_j e^{a_ir + b_jr} v_j / Σ_r Σ_j e^{a_ir + b_jr}.

A constant of a row i cancels in the quotient, and one of a feature r cancels between the sides. So
c_r = max_j b_jr goes from the keys to the queries, and then the largest a_ir + c_r out of the row:
every feature has a key that counts 1, every row a feature that counts 1, and no denominator is
below 1. Nothing is added to any feature.

Axes: G texts times heads, n queries, k keys, m features, d width, v width of a value.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["FeatureMap", "nonzero", "ratio_of_sums", "starting_ceiling", "with_ones"]

_TILE = 1 << 18
"""Numbers of one tile of features: 1 MB in float32, so that it stays in a second-level cache."""


@dataclass(frozen=True, eq=False)
class FeatureMap:
    """Linear log features, a = q · query_directions' + offset, b = k · directions' + log weight.

    Attributes:
        query_directions: (G, m, d).
        directions: (G, m, d), those of the keys.
        offset: (G, 1, m), all that belongs to a feature alone, kept on the side of the queries.
    """

    query_directions: Tensor
    directions: Tensor
    offset: Tensor

    def query_logs(self, query: Tensor, ceiling: Tensor, heads: slice) -> Tensor:
        """(g, n, m): a + c, the largest of every row taken out."""
        offset = self.offset[heads] + ceiling
        logs = torch.baddbmm(offset, query, self.query_directions[heads].mT)
        return logs.sub_(logs.detach().amax(-1, keepdim=True))

    def key_logs(self, key: Tensor, log_weight: Tensor, heads: slice) -> Tensor:
        """(g, k, m): b."""
        return torch.baddbmm(log_weight, key, self.directions[heads].mT)

    def tiles(self, rows: int) -> Iterator[slice]:
        """Heads that are taken together when a tile has so many rows."""
        heads, features = self.directions.shape[:2]
        step = max(1, _TILE // (rows * features))
        return (slice(at, min(at + step, heads)) for at in range(0, heads, step))

    def rows(self, n: int) -> int:
        """Rows of a tile."""
        return min(n, max(64, _TILE // self.directions.shape[1]))


def ratio_of_sums(
    maps: FeatureMap, query: Tensor, key: Tensor, log_weight: Tensor, value: Tensor
) -> Tensor:
    """Values mixed by the features, without order; zero where no key has weight.

    Args:
        maps: carries no gradient.
        query: (G, n, d).
        key: (G, k, d).
        log_weight: (G, k, 1); -inf for a masked key.
        value: (G, k, v).

    Returns:
        (G, n, v), differentiable once in all four tensors. Memory does not hold the features.
    """
    mixed: Tensor = _RatioOfSums.apply(maps, query, key, log_weight, value)  # type: ignore[no-untyped-call]
    return mixed


class _RatioOfSums(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        maps: FeatureMap,
        query: Tensor,
        key: Tensor,
        log_weight: Tensor,
        value: Tensor,
    ) -> Tensor:
        ceiling, sums = _summed(maps, key, log_weight, with_ones(value))
        mixed = query.new_empty((*query.shape[:2], value.shape[2]))
        weight = query.new_empty((*query.shape[:2], 1))
        for heads, rows in _tiles(maps, query.shape[1]):
            logs = maps.query_logs(query[heads, rows], ceiling[heads], heads)
            both = logs.exp_() @ sums[heads]
            weight[heads, rows] = nonzero(both[..., -1:])
            torch.div(both[..., :-1], weight[heads, rows], out=mixed[heads, rows])
        ctx.maps = maps
        ctx.save_for_backward(query, key, log_weight, value, ceiling, sums, mixed, weight)
        return mixed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        maps = ctx.maps
        query, key, log_weight, value, ceiling, sums, mixed, weight = ctx.saved_tensors
        d_both = upstream / weight
        d_both = torch.cat([d_both, -(d_both * mixed).sum(-1, keepdim=True)], dim=-1)
        d_query, d_sums = torch.empty_like(query), torch.zeros_like(sums)
        for heads, rows in _tiles(maps, query.shape[1]):
            features = maps.query_logs(query[heads, rows], ceiling[heads], heads).exp_()
            d_sums[heads] += features.mT @ d_both[heads, rows]
            d_logs = (d_both[heads, rows] @ sums[heads].mT).mul_(features)
            d_query[heads, rows] = d_logs @ maps.query_directions[heads]
        d_key, d_log_weight = torch.empty_like(key), torch.empty_like(log_weight)
        d_value = torch.empty_like(value)
        ones = with_ones(value)
        for heads, rows in _tiles(maps, key.shape[1]):
            logs = maps.key_logs(key[heads, rows], log_weight[heads, rows], heads)
            features = logs.sub_(ceiling[heads]).exp_()
            d_value[heads, rows] = features @ d_sums[heads, :, :-1]
            d_logs = (ones[heads, rows] @ d_sums[heads].mT).mul_(features)
            d_key[heads, rows] = d_logs @ maps.directions[heads]
            d_log_weight[heads, rows] = d_logs.sum(-1, keepdim=True)
        return None, d_query, d_key, d_log_weight, d_value


def with_ones(value: Tensor) -> Tensor:
    """(..., v + 1): values and a one, so that numerator and denominator are one product."""
    return torch.cat([value, torch.ones_like(value[..., :1])], dim=-1)


def starting_ceiling(maps: FeatureMap) -> Tensor:
    """The constants c (G, 1, m) before any key.

    Finite, so that masked keys give exp(-inf - c) = 0 and not NaN, and far enough from the end of
    the numbers that adding to it is safe.
    """
    heads, features = maps.directions.shape[:2]
    least = torch.finfo(maps.directions.dtype).min / 4
    return maps.directions.new_full((heads, 1, features), least)


def nonzero(weight: Tensor) -> Tensor:
    """Denominators; infinite where no key has weight, so that quotient and gradient are zero."""
    return weight.masked_fill(weight == 0, torch.inf)


def _tiles(maps: FeatureMap, n: int) -> Iterator[tuple[slice, slice]]:
    step = maps.rows(n)
    for heads in maps.tiles(step):
        for at in range(0, n, step):
            yield heads, slice(at, min(at + step, n))


def _summed(
    maps: FeatureMap, key: Tensor, log_weight: Tensor, ones: Tensor
) -> tuple[Tensor, Tensor]:
    """Constants c (G, 1, m) and Σ_j e^{b_j - c} (v_j, 1) (G, m, v + 1), in one pass."""
    ceiling = starting_ceiling(maps)
    sums = key.new_zeros((*maps.directions.shape[:2], ones.shape[-1]))
    for group, rows in _tiles(maps, key.shape[1]):
        logs = maps.key_logs(key[group, rows], log_weight[group, rows], group)
        risen = torch.maximum(ceiling[group], logs.amax(1, keepdim=True))
        shrunk = sums[group].mul_((ceiling[group] - risen).exp_().mT)
        shrunk += logs.sub_(risen).exp_().mT @ ones[group, rows]
        ceiling[group] = risen
    return ceiling, sums
