"""The cheapest attention that is good enough, head by head, with proof.

An approximation is foretold where it can be, computed, and then held against exact attention at
sampled rows. A head whose rows are off by more than the tolerance is done again, exactly. So the
tolerance is kept by measurement and not by hope, and what it costs to be wrong is one more pass
over that head.

Axes: B texts, H heads, Nq queries, Nk keys, D width of a head, Dv width of a value.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unabridged.attention.arguments import checked_scale
from unabridged.attention.exact import Exact
from unabridged.attention.favor import Favor
from unabridged.attention.multipole import Multipole
from unabridged.attention.protocol import Attention
from unabridged.attention.sampling import relative_error, sampled_rows

__all__ = ["BREAK_EVEN", "Auto", "Decision"]

BREAK_EVEN = 4096
"""Keys up to which exact attention is taken without asking. Two threads with AVX-512, three layers
of the default model: at 4,096 keys exact attention took 580 ms and multipole 652, at 8,192 2,340
and 1,176. `benchmarks/attention_break_even.py` finds it for a machine."""

_FAVOR, _MULTIPOLE = Favor(), Multipole(short=0)


@dataclass(frozen=True)
class Decision:
    """What was taken for each head, and what came of it.

    Attributes:
        mixed: (B, H, Nq, Dv), the values.
        chosen: B x H names: "exact", "favor", "multipole".
        errors: (B, H) relative error at the sampled rows; 0 for exact.
    """

    mixed: Tensor
    chosen: tuple[tuple[str, ...], ...]
    errors: Tensor


@dataclass(frozen=True)
class Auto:
    """Exact, multipole or FAVOR, whichever keeps a tolerance at the least cost.

    A text of at most `short` keys is attended to exactly. Of a longer one, heads whose weights
    `favor` is foretold to get right take it, the others take `multipole`; whoever then fails the
    test at sampled rows is done exactly. A text decides by itself, so padding and neighbours in a
    batch change nothing. Causal attention is exact.

    Attributes:
        tolerance: largest relative error of a head's output, |Õ - O|_F / |O|_F at sampled rows.
        short: keys up to which exact attention is the fastest.
        rows: queries of every head that are tested.
        seed: of their choice.
        favor: how heads with short queries and keys are done.
        multipole: how the others are.

    >>> q = torch.eye(8).reshape(1, 1, 8, 8)
    >>> Auto().decide(q, q, q).chosen
    (('exact',),)
    """

    tolerance: float = 0.1
    short: int = BREAK_EVEN
    rows: int = 64
    seed: int = 0
    favor: Favor = _FAVOR
    multipole: Multipole = _MULTIPOLE

    def __post_init__(self) -> None:
        if not self.tolerance >= 0:
            raise ValueError(
                f"Auto: tolerance is {self.tolerance}; it must be a number not below 0, so pass "
                "0.1, or 0 for exact attention."
            )
        if self.rows < 1:
            raise ValueError(f"Auto: rows is {self.rows}; at least 1 must be tested, so pass 64.")

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
        """Mixed values; see `Attention`."""
        if causal:
            return Exact()(query, key, value, key_mask=key_mask, causal=True, scale=scale)
        return self.decide(query, key, value, key_mask=key_mask, scale=scale).mixed

    def decide(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        key_mask: Tensor | None = None,
        scale: float | None = None,
    ) -> Decision:
        """Mixed values, and by which attention each head of each text got them.

        Args:
            query: (B, H, Nq, D).
            key: (B, H, Nk, D).
            value: (B, H, Nk, Dv).
            key_mask: (B, Nk), True where a key is real.
            scale: of the products; None for 1 / sqrt(D).

        Raises:
            ValueError: if shapes do not fit.
            TypeError: if dtypes differ or the mask is not bool.
        """
        factor = checked_scale(query, key, value, key_mask=key_mask, scale=scale, caller="Auto")
        real = key.shape[2] if key_mask is None else int(key_mask.sum(-1).max())
        if real <= self.short or not self.tolerance:
            mixed = Exact()(query, key, value, key_mask=key_mask, scale=factor)
            texts, heads = query.shape[:2]
            return Decision(
                mixed, (("exact",) * heads,) * texts, torch.zeros(texts, heads).double()
            )
        decided = []
        for i in range(len(query)):
            one = slice(i, i + 1)
            mask = None if key_mask is None else key_mask[one]
            decided.append(self._decide(_Text(query[one], key[one], value[one], mask, factor)))
        return Decision(
            torch.cat([one.mixed for one in decided]),
            tuple(one.chosen[0] for one in decided),
            torch.cat([one.errors for one in decided]),
        )

    def _decide(self, text: _Text) -> Decision:
        heads = text.query.shape[1]
        chosen = ["exact"] * heads
        errors = torch.zeros(1, heads, dtype=torch.float64)
        if text.real <= self.short:
            return Decision(text.mix(Exact(), range(heads)), (tuple(chosen),), errors)
        parts: list[Tensor | None] = [None] * heads
        for name, attention, some in self._candidates(text):
            mixed = text.mix(attention, some)
            lost = text.errors(mixed, some, self.rows, self.seed)
            for place, head in enumerate(some):
                if lost[place] <= self.tolerance:
                    chosen[head], errors[0, head] = name, lost[place]
                    parts[head] = mixed[:, place]
        rest = [head for head, part in enumerate(parts) if part is None]
        if rest:
            mixed = text.mix(Exact(), rest)
            for place, head in enumerate(rest):
                parts[head] = mixed[:, place]
        done = [part for part in parts if part is not None]
        return Decision(torch.stack(done, dim=1), (tuple(chosen),), errors)

    def _candidates(self, text: _Text) -> Iterator[tuple[str, Attention, list[int]]]:
        """Who is tried for which heads."""
        variance = self.favor.predicted_variance(
            text.query, text.key, key_mask=text.mask, scale=text.scale
        )[0]
        foretold = (variance / (self.favor.features * self.favor.redraws)).sqrt()
        good = (foretold <= self.tolerance).tolist()
        few = [head for head, is_good in enumerate(good) if is_good]
        others = [head for head, is_good in enumerate(good) if not is_good]
        if few:
            yield "favor", self.favor, few
        if others:
            yield "multipole", self.multipole, others


@dataclass(frozen=True, eq=False)
class _Text:
    """One text's heads, (1, H, N, ·) each."""

    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor | None
    scale: float

    @property
    def real(self) -> int:
        """How many keys are real."""
        return self.key.shape[2] if self.mask is None else int(self.mask.sum())

    def mix(self, attention: Attention, heads: Sequence[int]) -> Tensor:
        """(1, h, Nq, Dv) of some heads."""
        parts = (part[:, list(heads)] for part in (self.query, self.key, self.value))
        return attention(*parts, key_mask=self.mask, scale=self.scale)

    @torch.no_grad()
    def errors(self, mixed: Tensor, heads: list[int], rows: int, seed: int) -> list[float]:
        """Of each of these heads at sampled rows; rows at padding are not asked."""
        length = self.query.shape[2]
        places = torch.arange(length, device=mixed.device)
        if self.mask is not None and self.mask.shape[1] == length:
            places = self.mask[0].nonzero()[:, 0]
        places = places[sampled_rows(len(places), rows, seed=seed).to(places.device)]
        some = self.query[:, heads][:, :, places]
        wanted = Exact()(
            some, self.key[:, heads], self.value[:, heads], key_mask=self.mask, scale=self.scale
        )
        errors: list[float] = relative_error(mixed[:, :, places], wanted)[0].tolist()
        return errors
