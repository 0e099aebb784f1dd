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

from unabridged.attention.arguments import checked_scale
from unabridged.attention.exact import Exact
from unabridged.attention.multipole_certificate import certify
from unabridged.attention.multipole_choice import Choice, choose
from unabridged.attention.multipole_head import mix_head
from unabridged.attention.multipole_plan import HeadPlan, Sizes, make_plan
from unabridged.attention.multipole_tree import rows

__all__ = ["Multipole"]


@dataclass(frozen=True)
class Multipole:
    """Softmax attention with far keys summed up by their moments.

    Laws: constant values come back as they are; each coordinate of an output lies between the
    extremes of that coordinate over the values; a vector added to all keys, a change of basis, and
    the order of keys change nothing; `near="all"` is exact.

    Attributes:
        near: how many keys of near blocks a group of queries attends to exactly: "auto" for as many
            as the head needs, a number for that many in every head, "all" for every key.
        tolerance: with near="auto", the error that a head is expected to make at most, by an
            estimate that lies some times above the error itself.
        block: keys of a block, at least; blocks hold the same number each.
        group: queries of a group, at most.
        levels: with near="auto", how many sizes of blocks and groups a head may choose from, each
            twice the one before; what errs little anyway takes the coarser ones.
        shared: keys that every query attends to exactly, those with the largest weights.
        short: a text of at most so many keys is attended to exactly, where that is faster too.

    >>> q = k = v = torch.eye(8).reshape(1, 1, 8, 8)
    >>> multipole = Multipole(near=4, block=2, group=2, shared=2, short=0)
    >>> bool((multipole(q, k, v) - Exact()(q, k, v)).abs().max() < 0.01)
    True
    """

    near: int | Literal["auto", "all"] = "auto"
    tolerance: float = 0.15
    block: int = 64
    group: int = 64
    levels: int = 3
    shared: int = 32
    short: int = 1024

    def __post_init__(self) -> None:
        if self.near not in ("auto", "all") and (not isinstance(self.near, int) or self.near < 1):
            raise ValueError(
                f"Multipole: near is {self.near!r}; it must be 'auto', 'all' or a number of keys "
                "from 1 on, so pass 'auto'."
            )
        if not 0 <= self.tolerance < float("inf"):
            raise ValueError(
                f"Multipole: tolerance is {self.tolerance}; it must be a number from 0 on, "
                "so pass 0.15."
            )
        for name, least in (("block", 1), ("group", 1), ("levels", 1), ("shared", 1), ("short", 0)):
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
        dtype = _wide(query)
        wide = query.to(dtype), key.to(dtype), value.to(dtype)
        chosen, places = self.choices(*wide)
        slots = torch.stack(
            [mix_head(one.plan, one.blocks, one.near, query.dtype) for one in chosen]
        )
        low, high = wide[2].amin(1, keepdim=True), wide[2].amax(1, keepdim=True)
        return rows(slots, places).clamp(low, high).to(query.dtype)

    @torch.no_grad()
    def certificate(
        self, query: Tensor, key: Tensor, value: Tensor, *, scale: float | None = None
    ) -> Tensor:
        """For every row a bound (B, H, Nq) on its Euclidean distance from the exact row.

        It holds whatever the keys are, up to rounding; see `multipole_certificate`. What it costs
        is about a third of exact attention, so it is for proofs, not for every pass, and it lies
        far above the error itself where far blocks have much weight: 0 says exact, a small
        number says good, a large one says nothing.

        Args:
            query: (B, H, Nq, D).
            key: (B, H, Nk, D), all real.
            value: (B, H, Nk, Dv).
            scale: of the products; None for 1 / sqrt(D).

        Raises:
            ValueError: shapes that do not fit.
            TypeError: dtypes differ.
        """
        factor = checked_scale(query, key, value, key_mask=None, scale=scale, caller="certificate")
        if key.shape[2] <= self.short:
            return query.new_zeros(query.shape[:3])
        bounds = []
        for text in zip(query * factor, key, value, strict=True):
            chosen, places = self.choices(*(part.to(_wide(query)) for part in text))
            bounds.append(torch.stack([certify(one) for one in chosen]).gather(1, places))
        return torch.stack(bounds)

    def choices(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[list[Choice], Tensor]:
        """What is done with every head of one text, and where each query stands (H, Nq).

        Args:
            query: (H, Nq, D), already scaled.
            key: (H, Nk, D).
            value: (H, Nk, Dv).
        """
        plan = make_plan(query, key, value, Sizes(self.block, self.group, self.shared))
        return [self._choose(head) for head in plan.heads], plan.places

    def _choose(self, plan: HeadPlan) -> Choice:
        if self.near == "auto":
            return choose(plan, tolerance=self.tolerance, levels=self.levels)
        count, size = plan.pairs.shape[:2]
        near = count if self.near == "all" else min(count, -(-self.near // size))
        return Choice(plan, plan.blocks(), near, float("nan"))


def _wide(query: Tensor) -> torch.dtype:
    """What moments are computed in: half precisions are only stored."""
    return torch.float64 if query.dtype == torch.float64 else torch.float32
