"""Softmax attention without approximation, in tiles: memory grows with the length, not its square.

The oracle of every other member, and the attention of short inputs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import scaled_dot_product_attention

from unabridged.attention.arguments import checked_scale, key_weights_mask

__all__ = ["Exact"]

_TILE = 1 << 18
"""Scores that are held at a time: 1 MB in float32, so that they stay in a second-level cache."""


@dataclass(frozen=True)
class Exact:
    """softmax(scale · Q K') V, exactly.

    Laws: constant values come back as they are; outputs lie in the convex hull of the values;
    adding one vector to all keys, or moving keys and masks together, changes nothing.

    Attributes:
        tile: rows of queries, and of keys, that are held against each other at a time.
        kernel: "auto" hands over to torch's fused kernel where that computes the same thing (value
            width equal to key width, and for causal attention as many queries as keys); "tiled"
            never does.

    Departure from the source: gradients recompute the tiles from the row's log-sum-exp, as in Dao
    et al. (2022), but several heads take one step together.

    >>> q = k = torch.eye(2).reshape(1, 1, 2, 2)
    >>> Exact()(q, k, torch.ones(1, 1, 2, 3)).tolist()
    [[[[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]]]

    Reference: Milakov & Gimelshein (2018), Online normalizer calculation for softmax; Dao, Fu,
    Ermon, Rudra & Re (2022), FlashAttention, algorithms 1 and 4.
    """

    tile: int = 256
    kernel: Literal["auto", "tiled"] = "auto"

    def __post_init__(self) -> None:
        if self.tile < 1:
            raise ValueError(f"Exact: tile is {self.tile}; it must be at least 1, so pass 256.")
        if self.kernel not in ("auto", "tiled"):
            raise ValueError(
                f"Exact: kernel is {self.kernel!r}; it must be 'auto' or 'tiled', so pass one."
            )

    def __call__(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        key_mask: Tensor | None = None,
        causal: bool = False,
        scale: float | None = None,
    ) -> Tensor:
        """Mixed values; see `Attention`.

        Raises:
            ValueError: if shapes do not fit.
            TypeError: if dtypes differ or the mask is not bool.
        """
        factor = checked_scale(query, key, value, key_mask=key_mask, scale=scale, caller="Exact")
        masked = key_weights_mask(key_mask)
        square = not causal or query.shape[2] == key.shape[2]
        fused = self.kernel == "auto" and value.shape[3] == key.shape[3] and square
        if fused and masked is None:
            return scaled_dot_product_attention(query, key, value, is_causal=causal, scale=factor)
        # What torch's kernels make of a row without keys has changed between versions.
        if fused and not causal and key_mask is not None and bool(key_mask.any(-1).all()):
            seen = key_mask[:, None, None, :]
            return scaled_dot_product_attention(query, key, value, seen, scale=factor)
        flat = [x.flatten(0, 1) for x in (query, key, value)]
        bias = None
        if masked is not None:
            zeros = torch.zeros_like(key[..., 0])
            bias = zeros.masked_fill(masked[..., 0], -torch.inf).flatten(0, 1)
        plan = self.tile, causal, factor
        mixed: Tensor = _Tiled.apply(*flat, bias, plan)  # type: ignore[no-untyped-call]
        return mixed.reshape(*query.shape[:3], value.shape[3])


class _Tiled(torch.autograd.Function):
    """Attention and its gradient, neither of which holds a matrix of queries by keys.

    Axes: G texts times heads.
    """

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        query: Tensor,
        key: Tensor,
        value: Tensor,
        bias: Tensor | None,
        plan: tuple[int, bool, float],
    ) -> Tensor:
        tiles = _Tiles(query, key, bias, *plan)
        mixed = query.new_empty((*query.shape[:2], value.shape[2]))
        log_sums = query.new_empty((*query.shape[:2], 1), dtype=tiles.dtype)
        for rows in tiles.rows():
            mixed[rows], log_sums[rows] = _mix(tiles, rows, value)
        ctx.save_for_backward(query, key, value, bias, mixed, log_sums)
        ctx.plan = plan
        return mixed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        query, key, value, bias, mixed, log_sums = ctx.saved_tensors
        tiles = _Tiles(query, key, bias, *ctx.plan)
        d_query, d_key, d_value = (
            torch.zeros_like(x, dtype=tiles.dtype) for x in (query, key, value)
        )
        for rows in tiles.rows():
            d_mixed = upstream[rows].to(tiles.dtype)
            inner = (d_mixed * mixed[rows]).sum(-1, keepdim=True)
            for columns in tiles.columns(rows):
                weights = tiles.scores(rows, columns).sub_(log_sums[rows]).exp_()
                d_value[columns] += weights.mT @ d_mixed
                d_scores = d_mixed @ value[columns].to(tiles.dtype).mT
                d_scores.sub_(inner).mul_(weights).mul_(tiles.factor)
                d_query[rows] += d_scores @ key[columns].to(tiles.dtype)
                d_key[columns] += d_scores.mT @ query[rows].to(tiles.dtype)
        gradients = (d.to(query.dtype) for d in (d_query, d_key, d_value))
        return *gradients, None, None


_Place = tuple[slice, slice]
"""Some heads, and some rows of each."""


@dataclass(frozen=True, eq=False)
class _Tiles:
    """Which keys stand against which queries, and their scores."""

    query: Tensor
    key: Tensor
    bias: Tensor | None
    size: int
    causal: bool
    factor: float

    @property
    def dtype(self) -> torch.dtype:
        """What is computed in: half precisions are only stored."""
        return torch.float64 if self.query.dtype == torch.float64 else torch.float32

    def rows(self) -> Iterator[_Place]:
        heads, n, _ = self.query.shape
        side = min(self.size, n) * min(self.size, self.key.shape[1])
        for heads_taken in _steps(heads, max(1, _TILE // side)):
            for rows in _steps(n, self.size):
                yield heads_taken, rows

    def columns(self, place: _Place) -> Iterator[_Place]:
        heads, rows = place
        n = self.key.shape[1]
        last = min(n, rows.stop + self._ahead) if self.causal else n
        return ((heads, columns) for columns in _steps(last, self.size))

    @property
    def _ahead(self) -> int:
        return self.key.shape[1] - self.query.shape[1]

    def scores(self, rows: _Place, columns: _Place) -> Tensor:
        """(g, rows, columns); -inf where a key is masked or lies ahead."""
        query = self.query[rows].to(self.dtype) * self.factor
        scores = query @ self.key[columns].to(self.dtype).mT
        if self.bias is not None:
            # Adding is several times as fast as filling where a broadcast mask says so.
            scores.add_(self.bias[columns].unsqueeze(1))
        first, last = rows[1].start + self._ahead, columns[1].stop
        if self.causal and last > first + 1:
            i = torch.arange(first, rows[1].stop + self._ahead, device=scores.device)
            j = torch.arange(columns[1].start, last, device=scores.device)
            scores.masked_fill_(j > i[:, None], -torch.inf)
        return scores


def _steps(n: int, size: int) -> Iterator[slice]:
    return (slice(at, min(at + size, n)) for at in range(0, n, size))


def _mix(tiles: _Tiles, rows: _Place, value: Tensor) -> tuple[Tensor, Tensor]:
    """Mixed values and log-sum-exp of some rows; both zero for a row that sees no key."""
    # Finite, so that a tile without one real key gives exp(-inf - top) = 0 and not NaN.
    top = torch.full_like(
        tiles.query[rows][..., :1], torch.finfo(tiles.dtype).min, dtype=tiles.dtype
    )
    total = torch.zeros_like(top)
    mixed = top.new_zeros((*top.shape[:2], value.shape[2]))
    for columns in tiles.columns(rows):
        scores = tiles.scores(rows, columns)
        risen = torch.maximum(top, scores.amax(-1, keepdim=True))
        weights = scores.sub_(risen).exp_()
        shrink = (top - risen).exp_()
        total = total.mul_(shrink).add_(weights.sum(-1, keepdim=True))
        mixed = mixed.mul_(shrink).add_(weights @ value[columns].to(tiles.dtype))
        top = risen
    empty = total == 0
    log_sum = (top + total.log()).masked_fill_(empty, 0.0)
    return mixed / total.masked_fill(empty, 1.0), log_sum
