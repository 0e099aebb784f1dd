"""What every attention of this house is: settings that can be called."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

__all__ = ["Attention"]


class Attention(Protocol):
    """A way to mix values by the softmax of scaled products of queries and keys.

    Members are frozen dataclasses of settings: equal settings give equal outputs, and a setting
    is all that has to be saved beside a checkpoint.

    Axes: B batch, H heads, Nq queries, Nk keys, D width of a head, Dv width of a value.
    """

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
        """Mixed values.

        Args:
            query: (B, H, Nq, D).
            key: (B, H, Nk, D).
            value: (B, H, Nk, Dv).
            key_mask: (B, Nk), True where a key is real; None where all are. A row without one
                real key is zero.
            causal: whether query i sees keys 0 to i + Nk - Nq only.
            scale: what the products are multiplied by; None for 1 / sqrt(D).

        Returns:
            (B, H, Nq, Dv), in the queries' dtype.
        """
        ...
