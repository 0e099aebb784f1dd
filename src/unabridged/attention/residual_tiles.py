"""Attention over summed scores, a tile of score rows at a time, forward and backward.

Scores of one tile are formed from all layers' factors, used and forgotten; backward forms them
again. So memory grows with Nq + Nk, not with their product.

Axes: B batch, H heads, G heads of a group, R rows of a tile, Nq queries, Nk keys, C width of all
factors together, Dv width of a value.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from unabridged.attention.residual_scores import Factors

__all__ = ["Masking", "attend", "probabilities"]


@dataclass(frozen=True)
class Masking:
    """What applies to summed scores once, at the end.

    Attributes:
        scale: what the products are multiplied by.
        key_mask: (B, Nk), True where a key is real, or None.
        causal: whether query i sees keys 0 to i + Nk - Nq only.
        dropout: share of probabilities set to zero; the others grow by 1 / (1 - dropout).
        seed: of the dropout; equal seeds drop the same pairs, whatever the tiles.
    """

    scale: float
    key_mask: Tensor | None = None
    causal: bool = False
    dropout: float = 0.0
    seed: int = 0

    def visible(self, batch: slice, rows: slice, queries: int, keys: int) -> Tensor | None:
        """(b or 1, 1, R or 1, Nk) True where a query may see a key; None where all may."""
        seen = None
        if self.key_mask is not None:
            seen = self.key_mask[batch, None, None, :].bool()
        if self.causal:
            last = torch.arange(rows.start, rows.stop)[:, None] + (keys - queries)
            triangle = (torch.arange(keys)[None, :] <= last)[None, None]
            seen = triangle if seen is None else seen & triangle
        return seen

    def generator(self) -> torch.Generator | None:
        """A fresh source of the dropout's draws; None where nothing is dropped."""
        return torch.Generator().manual_seed(self.seed) if self.dropout else None

    def kept(self, shape: torch.Size, generator: torch.Generator) -> Tensor:
        """Factors 0 or 1 / (1 - dropout); drawn row after row, so tiles of rows draw the same."""
        drawn = torch.rand(shape, generator=generator)
        return (drawn >= self.dropout) / (1 - self.dropout)


def probabilities(scores: Tensor, visible: Tensor | None) -> Tensor:
    """Softmax over the last axis; zero where nothing is visible. Overwrites `scores`."""
    if visible is None:
        return scores.softmax(dim=-1)
    scores.masked_fill_(~visible, float("-inf"))
    shares = scores.softmax(dim=-1)
    blind = ~visible.any(dim=-1, keepdim=True)
    return shares.masked_fill(blind, 0.0) if bool(blind.any()) else shares


def attend(factors: Factors, value: Tensor, masking: Masking, *, tile: int) -> Tensor:
    """Values (B, H, Nk, Dv) mixed by the softmax of all factors' scores, (B, H, Nq, Dv).

    Args:
        factors: queries and keys of all layers.
        value: of the last layer.
        masking: scale, masks, dropout.
        tile: how many scores are formed at once, at least one row of Nk.
    """
    weights = factors.weights.to(value.dtype) * masking.scale
    mixed: Tensor = _Attend.apply(  # type: ignore[no-untyped-call]
        masking, tile, weights, value, *factors.queries, *factors.keys
    )
    return mixed


class _Attend(torch.autograd.Function):
    """Backward in closed form, with probabilities formed again (as in Dao et al. 2022)."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        masking: Masking,
        tile: int,
        weights: Tensor,
        value: Tensor,
        *factors: Tensor,
    ) -> Tensor:
        work = _Work(masking, tile, weights, value, factors)
        mixed = value.new_empty(*work.query_shape, value.shape[-1])
        for group in work.groups():
            for rows, shares, kept in group.tiles():
                shares = shares if kept is None else shares * kept
                mixed[(*group.at, rows)] = group.unflat(shares @ group.value)
        ctx.masking, ctx.tile = masking, tile
        ctx.save_for_backward(weights, value, mixed, *factors)
        return mixed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        weights, value, mixed, *factors = ctx.saved_tensors
        work = _Work(ctx.masking, ctx.tile, weights, value, tuple(factors))
        slopes = [torch.zeros_like(part) for part in (weights, value, *factors)]
        for group in work.groups():
            _backward_group(group, mixed, slope, slopes)
        return None, None, *slopes


def _backward_group(group: _Group, mixed: Tensor, slope: Tensor, slopes: list[Tensor]) -> None:
    """Add one group's share to the slopes of weights, value, queries and keys."""
    d_key = torch.zeros_like(group.key)  # (G, Nk, C)
    d_value = torch.zeros_like(group.value)
    layers = len(group.work.queries)
    d_weights, d_queries, d_keys = slopes[0], slopes[2 : 2 + layers], slopes[2 + layers :]
    for rows, shares, kept in group.tiles():
        up = slope[(*group.at, rows)].flatten(0, 1)  # (G, R, Dv)
        along = (up * mixed[(*group.at, rows)].flatten(0, 1)).sum(dim=-1, keepdim=True)
        d_shares = up @ group.value.mT
        if kept is not None:
            d_shares, used = d_shares * kept, shares * kept
        else:
            used = shares
        d_value += used.mT @ up
        d_scores = d_shares.sub_(along).mul_(shares)
        d_key += d_scores.mT @ group.query(rows)
        d_query = group.unflat(d_scores @ group.key)  # (b, h, R, C)
        for layer, part in enumerate(torch.split(d_query, group.work.widths, dim=-1)):
            weight = group.work.weights[layer, group.at[1], None, None]
            d_queries[layer][(*group.at, rows)] = part * weight
            products = part * group.work.queries[layer][(*group.at, rows)]
            d_weights[layer, group.at[1]] += products.sum(dim=(0, 2, 3))
    slopes[1][group.at] = group.unflat(d_value)
    for layer, part in enumerate(torch.split(group.unflat(d_key), group.work.widths, dim=-1)):
        d_keys[layer][group.at] = part


class _Work:
    """The tensors of one call, and how they are cut."""

    def __init__(
        self,
        masking: Masking,
        tile: int,
        weights: Tensor,
        value: Tensor,
        factors: tuple[Tensor, ...],
    ) -> None:
        layers = len(factors) // 2
        self.masking, self.tile = masking, tile
        self.weights, self.value = weights, value
        self.queries, self.keys = factors[:layers], factors[layers:]
        self.widths = [query.shape[-1] for query in self.queries]
        self.query_shape = self.queries[0].shape[:3]

    def groups(self) -> Iterator[_Group]:
        """Heads that share tiles: several where sequences are short, one where they are long."""
        batch, heads, queries = self.query_shape
        room = max(1, self.tile // (queries * self.value.shape[2]))
        batches, together = max(1, min(batch, room // heads)), min(heads, room)
        generator = self.masking.generator()
        for b in range(0, batch, batches):
            for h in range(0, heads, together):
                at = (slice(b, min(b + batches, batch)), slice(h, min(h + together, heads)))
                yield _Group(self, at, generator)


class _Group:
    """Some heads of some sequences, keys and values laid side by side."""

    def __init__(
        self, work: _Work, at: tuple[slice, slice], generator: torch.Generator | None
    ) -> None:
        self.work, self.at, self._generator = work, at, generator
        self.key = _flat([key[at] for key in work.keys])
        self.value = work.value[at].flatten(0, 1)

    def query(self, rows: slice) -> Tensor:
        """(G, R, C), gates and scale in them."""
        work, at = self.work, self.at
        return _flat(
            [
                query[(*at, rows)] * weight[at[1], None, None]
                for query, weight in zip(work.queries, work.weights, strict=True)
            ]
        )

    def tiles(self) -> Iterator[tuple[slice, Tensor, Tensor | None]]:
        """Rows, their probabilities (G, R, Nk) and what dropout leaves of them, tile by tile."""
        masking, queries, keys = self.work.masking, self.work.query_shape[2], self.key.shape[1]
        count = max(1, min(queries, self.work.tile // keys))
        for start in range(0, queries, count):
            rows = slice(start, min(start + count, queries))
            scores = self.query(rows) @ self.key.mT
            visible = masking.visible(self.at[0], rows, queries, keys)
            shares = probabilities(self.unflat(scores), visible).flatten(0, 1)
            kept = masking.kept(shares.shape, self._generator) if self._generator else None
            yield rows, shares, None if kept is None else kept.to(shares.dtype)

    def unflat(self, parts: Tensor) -> Tensor:
        """(G, …) back to (b, h, …)."""
        heads = self.at[1].stop - self.at[1].start
        return parts.view(-1, heads, *parts.shape[1:])


def _flat(parts: list[Tensor]) -> Tensor:
    joined = parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
    return joined.flatten(0, 1)
