"""The block of a compact encoder, and the weights it starts from.

Axes: B batch, T tokens, D width, H heads.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  the field's name for it

from unabridged.attention.protocol import Attention
from unabridged.attention.residual import Carried, Residual

__all__ = ["Block", "first_weights"]


class Block(nn.Module):
    """Attention and a feed-forward part, each added to the states.

    Args:
        width: D.
        heads: H.
        hidden: width inside the feed-forward part.
        norm: "after": norm(x + part(x)), as in BERT; "before": x + part(norm(x)).
        dropout: of what each part gives.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        *,
        norm: Literal["after", "before"],
        dropout: float,
    ) -> None:
        super().__init__()
        self.heads, self.norm, self.dropout = heads, norm, dropout
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)
        self.attention_norm = nn.LayerNorm(width, eps=1e-12)
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.output_norm = nn.LayerNorm(width, eps=1e-12)

    def forward(
        self, states: Tensor, real: Tensor | None, attention: Attention, earlier: Carried | None
    ) -> tuple[Tensor, Carried | None]:
        """States (B, T, D) after the block, and the scores that a RealFormer's next one gets."""
        inner = self.attention_norm(states) if self.norm == "before" else states
        mixed, after = self._attend(inner, real, attention, earlier)
        states = states + F.dropout(self.out(mixed), self.dropout, self.training)
        if self.norm == "before":
            return states + self._feed(self.output_norm(states)), after
        states = self.attention_norm(states)
        return self.output_norm(states + self._feed(states)), after

    def heads_of(self, states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each (B, H, T, D / H)."""
        query, key, value = (
            part(states).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        return query, key, value

    def _attend(
        self, states: Tensor, real: Tensor | None, attention: Attention, earlier: Carried | None
    ) -> tuple[Tensor, Carried | None]:
        query, key, value = self.heads_of(states)
        if isinstance(attention, Residual):
            dropping = bool(attention.dropout) and self.training
            seed = int(torch.randint(1 << 62, ())) if dropping else 0
            used = attention if self.training else replace(attention, dropout=0.0)
            mixed, after = used.read(query, key, value, earlier=earlier, key_mask=real, seed=seed)
            return mixed.transpose(1, 2).flatten(2), after
        mixed = attention(query, key, value, key_mask=real)
        return mixed.transpose(1, 2).flatten(2), None

    def _feed(self, states: Tensor) -> Tensor:
        return F.dropout(self.down(F.gelu(self.up(states))), self.dropout, self.training)


def first_weights(module: nn.Module, *, spread: float, generator: torch.Generator) -> None:
    """Normal matrices and tables, zero biases, norms that change nothing; in order of modules."""
    for part in module.modules():
        if isinstance(part, (nn.Linear, nn.Embedding)):
            nn.init.normal_(part.weight, std=spread, generator=generator)
        if isinstance(part, nn.Linear):
            nn.init.zeros_(part.bias)
