"""RealFormer's residual attention, exactly, without ever holding all scores.

Source: He, Ravula, Kanagal and Ainslie (2021), RealFormer: Transformer likes residual attention,
section 3: every layer adds the previous layer's raw scores to its own before the softmax. The
scores so far are one product of concatenated queries and keys (kexue.fm/archives/8027), so any
exact attention computes them, given the scale of a single layer. We depart from the paper by a
gate per layer, 1 for the paper's and 0 for plain attention.

Axes: B batch, H heads, Nq queries, Nk keys, D width of a head, Dv width of a value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

import torch
from torch import Tensor

from unabridged.attention.arguments import checked_scale
from unabridged.attention.protocol import Attention
from unabridged.attention.residual_scores import Factors, Gate, Total, compress
from unabridged.attention.residual_tiles import Masking, attend

__all__ = ["TILE", "Carried", "Mode", "Residual"]

Mode = Literal["materialised", "tiled", "compressed", "concatenated"]
Carried = Factors | Total
"""What one layer hands to the next. Immutable: it belongs to one forward pass."""

_C = TypeVar("_C", Factors, Total)

TILE = 1 << 20
"""Scores formed at once. Measured: 4 MB of float32 stay near the cores; more is not faster."""


@dataclass(frozen=True)
class Residual:
    """Attention over the sum of this layer's and all earlier layers' scores.

        A_n = Q_n K_nᵀ / sqrt(D) + g_n A_{n-1},    output = softmax(mask(A_n)) V_n

    Modes:
        materialised: carries A_n itself, (B, H, Nq, Nk). The oracle, and the fastest where it is
            small.
        tiled: carries queries and keys, forms tiles of A_n. Exact, memory linear in length; the
            products of layer n are n times as wide.
        compressed: carries factors of width `rank`, cut anew by a singular value decomposition in
            every layer, so that neither memory nor time grows with depth. An approximation, for
            inference only.
        concatenated: hands queries and keys, concatenated, to `attention`. With multipole the
            products are wider; with random features the variance grows exponentially with depth,
            see `predicted_log_variance`.

    As a member of the family, calling it is one layer, and without `earlier` plain attention.

    Args:
        mode: see above.
        rank: of "compressed".
        attention: of "concatenated".
        dropout: share of the probabilities set to zero; "materialised" and "tiled" only.
        tile: of "tiled" and "compressed", how many scores are formed at once.

    >>> q, k, v = torch.randn(3, 2, 1, 2, 7, 4, generator=torch.Generator().manual_seed(0))
    >>> tiled, oracle = Residual(), Residual("materialised")
    >>> first, so_far = tiled.read(q[0], k[0], v[0])
    >>> second, so_far = tiled.read(q[1], k[1], v[1], earlier=so_far)
    >>> len(so_far.queries)
    2
    >>> _, scores = oracle.read(q[0], k[0], v[0])
    >>> torch.testing.assert_close(second, oracle(q[1], k[1], v[1], earlier=scores))
    """

    mode: Mode = "tiled"
    rank: int | None = None
    attention: Attention | None = None
    dropout: float = 0.0
    tile: int = TILE

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise ValueError(f"mode: got {self.mode!r}, wanted one of {', '.join(get_args(Mode))}.")
        for name, mode in (("rank", "compressed"), ("attention", "concatenated")):
            if (getattr(self, name) is not None) != (self.mode == mode):
                raise ValueError(f"{name}: belongs to mode {mode!r} and only there; got {self}.")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout: got {self.dropout}, wanted at least 0 and below 1.")
        if self.dropout and self.mode not in ("materialised", "tiled"):
            raise ValueError(
                f"dropout: mode {self.mode!r} never forms the probabilities as they are; train "
                "with 'tiled', or with dropout=0."
            )

    def __call__(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        earlier: Carried | None = None,
        gate: Gate = 1.0,
        key_mask: Tensor | None = None,
        causal: bool = False,
        scale: float | None = None,
        seed: int = 0,
    ) -> Tensor:
        """One layer's mixed values, (B, H, Nq, Dv); see `read`."""
        mixed, _ = self.read(
            query,
            key,
            value,
            earlier=earlier,
            gate=gate,
            key_mask=key_mask,
            causal=causal,
            scale=scale,
            seed=seed,
        )
        return mixed

    def read(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        earlier: Carried | None = None,
        gate: Gate = 1.0,
        key_mask: Tensor | None = None,
        causal: bool = False,
        scale: float | None = None,
        seed: int = 0,
    ) -> tuple[Tensor, Carried]:
        """One layer: mixed values (B, H, Nq, Dv), and what the next layer gets as `earlier`.

        Args:
            query: (B, H, Nq, D), this layer's alone.
            key: (B, H, Nk, D).
            value: (B, H, Nk, Dv).
            earlier: what the layer before returned, from the same mode; None for the first.
            gate: how much of it is added, a number or a tensor of shape () or (H,).
            key_mask: (B, Nk), True where a key is real. Applied once, to the sum.
            causal: whether query i sees keys 0 to i + Nk - Nq only.
            scale: of every layer's products; None for 1 / sqrt(D). Never that of the
                concatenated width.
            seed: of the dropout. Give every layer and step its own.

        Raises:
            ValueError: shapes do not fit, or `earlier` is of another mode.
            TypeError: dtypes differ, or the mask is not bool.
            NotImplementedError: a gradient is wanted through "compressed".
        """
        scale = checked_scale(
            query, key, value, key_mask=key_mask, scale=scale, caller=f"Residual({self.mode})"
        )
        masking = Masking(scale, key_mask, causal, self.dropout, seed)
        if self.mode == "materialised":
            return _materialised(query, key, value, _of(Total, earlier), gate, masking)
        known = _of(Factors, earlier)
        factors = Factors.of(query, key) if known is None else known.then(query, key, gate)
        if self.mode == "compressed":
            factors = self._compressed(factors, key_mask)
        if self.attention is None:
            return attend(factors, value, masking, tile=self.tile), factors
        joined = factors.concatenated()
        mixed = self.attention(*joined, value, key_mask=key_mask, causal=causal, scale=scale)
        return mixed, factors

    def _compressed(self, factors: Factors, key_mask: Tensor | None) -> Factors:
        wide = factors.concatenated()
        if torch.is_grad_enabled() and any(part.requires_grad for part in wide):
            raise NotImplementedError(
                "Residual: mode 'compressed' has no gradient (singular vectors turn abruptly where "
                "values meet); train with 'tiled', or call it under torch.no_grad()."
            )
        assert self.rank is not None
        if wide[0].shape[-1] <= self.rank:
            return factors
        left, right, _ = compress(*wide, self.rank, key_mask=key_mask)
        return Factors.of(left, right)


def _of(kind: type[_C], earlier: Carried | None) -> _C | None:
    if earlier is None or isinstance(earlier, kind):
        return earlier
    raise ValueError(
        f"earlier: is {type(earlier).__name__}, wanted {kind.__name__}; hand on what the same mode "
        "returned."
    )


def _materialised(
    query: Tensor, key: Tensor, value: Tensor, earlier: Total | None, gate: Gate, masking: Masking
) -> tuple[Tensor, Total]:
    own = (query * masking.scale) @ key.mT  # (B, H, Nq, Nk)
    total = Total(own) if earlier is None else earlier.then(own, gate)
    visible = masking.visible(slice(None), slice(0, own.shape[2]), *own.shape[2:])
    if visible is None:
        shares = total.scores.softmax(dim=-1)
    else:
        shares = total.scores.masked_fill(~visible, float("-inf")).softmax(dim=-1)
        shares = shares.masked_fill(~visible.any(dim=-1, keepdim=True), 0.0)
    if (generator := masking.generator()) is not None:
        shares = shares * masking.kept(shares.shape, generator).to(shares.dtype)
    return shares @ value, total
