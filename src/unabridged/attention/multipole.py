"""Attention of pretrained weights without training: near keys exactly, far ones by moments.

Nothing is trained and nothing is random. Keys stand in a balanced tree of blocks, queries in a
tree of groups; a group attends exactly to the blocks where its own spread matters most and to the
keys that matter to everybody, and to all other blocks through their exact softmax at the group's
centre, expanded to second order (see `multipole_far`).

Axes: B batch, H heads, Nq queries, Nk keys, D width of a head, Dv width of a value, G some heads,
A groups of queries, T queries of a group, C blocks of keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from unabridged.attention.arguments import checked_scale
from unabridged.attention.exact import Exact
from unabridged.attention.multipole_far import Blocks, Expansion, expand, far_part, indicator
from unabridged.attention.multipole_near import Part, attend, join
from unabridged.attention.multipole_plan import Plan, Sizes, make_plan

__all__ = ["Multipole"]

_SCORES = 2**20
"""Scores of centres against keys that are held at a time, so that they stay in cache."""


@dataclass(frozen=True)
class Multipole:
    """Softmax attention with far keys summed up by their moments.

    Laws: constant values come back as they are; each coordinate of an output lies between the
    extremes of that coordinate over the values; a vector added to all keys, a change of basis, and
    the order of keys change nothing; `near="all"` is exact.

    Attributes:
        near: keys of near blocks that a group of queries attends to exactly; "all" for every key.
        block: keys of a block, at least; blocks hold the same number each.
        group: queries of a group, at most.
        shared: keys that every query attends to exactly, those with the largest weights.
        short: a text of at most so many keys is attended to exactly, where that is faster too.

    >>> q = k = v = torch.eye(8).reshape(1, 1, 8, 8)
    >>> multipole = Multipole(near=4, block=2, group=2, shared=2, short=0)
    >>> bool((multipole(q, k, v) - Exact()(q, k, v)).abs().max() < 0.01)
    True
    """

    near: int | Literal["all"] = 512
    block: int = 64
    group: int = 64
    shared: int = 32
    short: int = 1024

    def __post_init__(self) -> None:
        if self.near != "all" and (not isinstance(self.near, int) or self.near < 1):
            raise ValueError(
                f"Multipole: near is {self.near!r}; it must be a number of keys from 1 on, or "
                "'all', so pass 512."
            )
        for name, least in (("block", 1), ("group", 1), ("shared", 1), ("short", 0)):
            if getattr(self, name) < least:
                raise ValueError(
                    f"Multipole: {name} is {getattr(self, name)}; it must be at least {least}, "
                    f"so pass {type(self).__dataclass_fields__[name].default}."
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

        With as many queries as keys, the queries at masked keys are padding: they stand in trees
        of their own, so that they move no other row.

        Raises:
            ValueError: shapes that do not fit, or causal=True: a block holds keys of all places,
                some of which would lie in the future.
            TypeError: dtypes differ or the mask is not bool.
        """
        if causal:
            raise ValueError(
                "Multipole: causal is True, and a block of near keys mixes keys from all places, "
                "past and future; use Exact or Favor where the future must not be seen."
            )
        factor = checked_scale(
            query, key, value, key_mask=key_mask, scale=scale, caller="Multipole"
        )
        if self._is_short(key, key_mask):
            return Exact()(query, key, value, key_mask=key_mask, scale=factor)
        texts = zip(query * factor, key, value, strict=True)
        if key_mask is None:
            return torch.stack([self._mix(*text) for text in texts])
        return torch.stack(
            [self._masked(*text, mask) for text, mask in zip(texts, key_mask, strict=True)]
        )

    def _is_short(self, key: Tensor, key_mask: Tensor | None) -> bool:
        real = key.shape[2] if key_mask is None else int(key_mask.sum(-1).max())
        return real <= self.short

    def _masked(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        """One text (H, Nq, ·) whose masked keys are left out."""
        if not mask.any():
            return Exact()(query[None], key[None], value[None], key_mask=mask[None])[0]
        key, value = key[:, mask], value[:, mask]
        if query.shape[1] != len(mask) or bool(mask.all()):
            return self._mix(query, key, value)
        mixed = query.new_empty((*query.shape[:2], value.shape[-1]))
        mixed[:, mask] = self._mix(query[:, mask], key, value)
        mixed[:, ~mask] = self._mix(query[:, ~mask], key, value)
        return mixed

    def _mix(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """One text without padding, (H, Nq, D), (H, Nk, D), (H, Nk, Dv) to (H, Nq, Dv)."""
        if key.shape[1] <= self.short:
            return Exact()(query[None], key[None], value[None], scale=1.0)[0]
        heads = max(1, min(len(query), _SCORES // (4 * key.shape[1])))
        parts = zip(*(torch.split(part, heads) for part in (query, key, value)), strict=True)
        return torch.cat([self._mix_heads(*part) for part in parts])

    def _mix_heads(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        dtype = torch.float64 if query.dtype == torch.float64 else torch.float32
        wide = query.to(dtype), key.to(dtype), value.to(dtype)
        plan = make_plan(*wide, Sizes(self.block, self.group, self.shared))
        at_once = max(1, _SCORES // (key.shape[0] * key.shape[1]))
        remember = torch.is_grad_enabled() and any(part.requires_grad for part in wide)
        mixed = []
        for groups in torch.split(plan.groups, at_once, dim=1):
            parts = groups, plan.blocks, plan.shared, self._near_blocks(plan)
            mixed.append(
                checkpoint(_mix_groups, *parts, use_reentrant=False)
                if remember
                else _mix_groups(*parts)
            )
        slots = torch.cat(mixed, dim=1).flatten(1, 2)
        rows = slots.gather(1, plan.places[..., None].expand(-1, -1, slots.shape[-1]))
        low, high = wide[2].amin(1, keepdim=True), wide[2].amax(1, keepdim=True)
        return rows.clamp(low, high).to(query.dtype)

    def _near_blocks(self, plan: Plan) -> int:
        blocks, size = plan.blocks.pairs.shape[1:3]
        return blocks if self.near == "all" else min(blocks, -(-self.near // size))


def _mix_groups(groups: Tensor, blocks: Blocks, shared: Tensor, near: int) -> Tensor:
    """Values (G, A, T, Dv) of groups (G, A, T, D)."""
    centres = groups.mean(2)
    offsets = groups - centres[:, :, None]
    expansion = expand(centres, blocks)
    shares = _shares(centres, expansion, shared, blocks.width)
    chosen = indicator(shares, offsets, blocks).detach().topk(near, dim=-1).indices
    parts = [_shared_part(groups, shared, blocks.width), _near_part(groups, chosen, blocks)]
    if near < shares.shape[-1]:
        is_near = torch.zeros_like(shares, dtype=torch.bool).scatter_(-1, chosen, True)
        parts.append(far_part(offsets, expansion, is_near, blocks))
    return join(parts)


def _shares(centres: Tensor, expansion: Expansion, shared: Tensor, width: int) -> Tensor:
    """Shares (G, A, C) of the blocks in the whole softmax at the centres."""
    alone = (centres @ shared[..., :width].transpose(1, 2)).logsumexp(-1, keepdim=True)
    total = torch.cat([expansion.log_weights, alone], dim=-1).logsumexp(-1, keepdim=True)
    return (expansion.log_weights - total).exp()


def _shared_part(groups: Tensor, shared: Tensor, width: int) -> Part:
    mixed, weight = attend(groups.flatten(1, 2), *_apart(shared, width))
    return mixed.view(*groups.shape[:3], -1), weight.view(groups.shape[:3])


def _near_part(groups: Tensor, chosen: Tensor, blocks: Blocks) -> Part:
    """Exact attention of every group to the blocks it chose (G, A, n)."""
    heads, some = chosen.shape[:2]
    count = blocks.pairs.shape[1]
    rows = (chosen + count * torch.arange(heads, device=chosen.device)[:, None, None]).flatten()
    pairs = blocks.pairs.flatten(0, 1)[rows].view(heads * some, -1, blocks.pairs.shape[-1])
    mixed, weight = attend(groups.flatten(0, 1), *_apart(pairs, blocks.width))
    return mixed.view(*groups.shape[:3], -1), weight.view(groups.shape[:3])


def _apart(pairs: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Keys and values that stand side by side; views, not copies."""
    return pairs[..., :width], pairs[..., width:]
