"""Attention of pretrained weights without training: near keys exactly, far ones by moments.

Nothing is trained. Keys stand in a balanced tree of blocks, queries in a tree of groups; a group
meets one by one the keys of which its expansion would hide most, and all others through the exact
softmax of their blocks at the group's centre, expanded to second order (see `far`). How many groups
and blocks there are and how many keys are met is settled for each head by trying it on some of its
queries, whose exact attention is computed (see `choice`); what they are off on average is taken
away from all rows.

Axes: B batch, H heads, Nq queries, Nk keys, D width of a head, Dv width of a value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from unabridged.attention.arguments import checked_scale
from unabridged.attention.each_head import each_head
from unabridged.attention.exact import Exact
from unabridged.attention.multipole.certificate import certify
from unabridged.attention.multipole.choice import Choice, Decision, choose, finest
from unabridged.attention.multipole.head import Field, mix_groups
from unabridged.attention.multipole.plan import Head, Sizes

__all__ = ["Multipole"]


@dataclass(frozen=True)
class Multipole:
    """Softmax attention with far keys summed up by their moments.

    Laws: constant values come back as they are; each coordinate of an output lies between the
    extremes of that coordinate over the values; a vector added to all keys, a change of basis, and
    the order of keys change nothing; with as many near keys as there are it is exact.

    Attributes:
        near: how many keys a group of queries meets one by one: "auto" for as many as the head
            needs, a number for that many in every head, "all" for exact attention.
        tolerance: with near="auto", what a head may err, |O' - O| / |O| measured at 64 queries.
        group: queries of a group, at most; None for half the root of the number of keys.
        block: keys of a block, at least; None for those of four groups. With near="auto" heads
            take larger groups and blocks where these are good enough.
        shared: keys that every query attends to exactly, those with the largest weights.
        short: a text of at most so many keys is attended to exactly: there is little to save.

    >>> q = k = v = torch.eye(8).reshape(1, 1, 8, 8)
    >>> multipole = Multipole(near=4, block=2, group=2, shared=2, short=0)
    >>> bool((multipole(q, k, v) - Exact()(q, k, v)).abs().max() < 0.01)
    True
    """

    near: int | Literal["auto", "all"] = "auto"
    tolerance: float = 0.035
    group: int | None = None
    block: int | None = None
    shared: int = 32
    short: int = 4096

    def __post_init__(self) -> None:
        if self.near not in ("auto", "all") and (not isinstance(self.near, int) or self.near < 1):
            raise ValueError(
                f"Multipole: near is {self.near!r}; it must be 'auto', 'all' or a number of keys "
                "from 1 on, so pass 'auto'."
            )
        if not 0 <= self.tolerance < float("inf"):
            raise ValueError(
                f"Multipole: tolerance is {self.tolerance}; it must be a number from 0 on, "
                "so pass 0.035."
            )
        for name, least in (("block", 1), ("group", 1), ("shared", 1), ("short", 0)):
            number = getattr(self, name)
            if number is not None and number < least:
                raise ValueError(
                    f"Multipole: {name} is {number}; it must be at least {least}, "
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
                "Multipole: causal is True, and a block of far keys mixes keys from all places, "
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
        return real <= self.short or self.near == "all"

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
        return torch.stack(each_head(self._mix_head, query, key, value))

    def _mix_head(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """(Nq, Dv)."""
        head = self._head(query, key, value)
        found = self._choose(head)
        if found is None:
            return Exact()(query[None, None], key[None, None], value[None, None], scale=1.0)[0, 0]
        field = Field.of(found.plan, found.blocks, found.near, query.dtype)
        mixed = mix_groups(found.plan.groups, field).flatten(0, 1)[found.plan.places]
        # Errors of single rows average out over a text, their mean does not: it is taken away.
        mixed = mixed + (head.exact - mixed.detach()[head.sample]).mean(0)
        values = head.pairs[:, query.shape[-1] :].detach()
        return mixed.clamp(values.amin(0), values.amax(0)).to(query.dtype)

    @torch.no_grad()
    def certificate(
        self, query: Tensor, key: Tensor, value: Tensor, *, scale: float | None = None
    ) -> Tensor:
        """For every row a bound (B, H, Nq) on its Euclidean distance from the exact row.

        It holds whatever the keys are, up to rounding; see `certificate`. What it costs is about
        a third of exact attention, so it is for proofs, not for every pass, and it lies far above
        the error itself where far blocks have much weight: 0 says exact, a small number says good,
        a large one says nothing.

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
        if self._is_short(key, None):
            return query.new_zeros(query.shape[:3])
        return torch.stack(
            [
                torch.stack(each_head(self._certify_head, *text))
                for text in zip(query * factor, key, value, strict=True)
            ]
        )

    def _certify_head(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """(Nq,)."""
        head = self._head(query, key, value)
        found = self._choose(head)
        return query.new_zeros(len(query)) if found is None else certify(head, found)

    def decisions(self, query: Tensor, key: Tensor, value: Tensor) -> Sequence[Decision]:
        """What is done with every head of one text longer than `short`.

        Args:
            query: (H, Nq, D), already scaled.
            key: (H, Nk, D).
            value: (H, Nk, Dv).
        """
        return each_head(self._decide, query, key, value)

    def _decide(self, query: Tensor, key: Tensor, value: Tensor) -> Decision:
        head = self._head(query, key, value)
        return Decision(self._choose(head), len(key), head.spent)

    def _head(self, query: Tensor, key: Tensor, value: Tensor) -> Head:
        """Half precisions are only stored: moments are computed in a wider one."""
        wide = torch.float64 if query.dtype == torch.float64 else torch.float32
        sizes = Sizes(self.group, self.block, self.shared)
        return Head(query.to(wide), key.to(wide), value.to(wide), sizes)

    def _choose(self, head: Head) -> Choice | None:
        if self.near == "auto":
            return choose(head, tolerance=self.tolerance)
        return None if self.near == "all" else finest(head, self.near)
