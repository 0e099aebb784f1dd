"""A compact encoder to train from scratch: three architectures, any positions and attention.

    shape = Shape(vocabulary=8192, layers=4, architecture="realformer")
    model = CompactEncoder(shape, seed=0)
    objective = MaskedLanguageModel(Masking.of(tokenizer), logits_at)

A "post-norm" one is a BERT in all but name; `compact_export` saves it as one.

Axes: B batch, T tokens, D width, V vocabulary, M chosen places.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  the field's name for it

from unabridged.attention.exact import Exact
from unabridged.attention.protocol import Attention
from unabridged.attention.residual import Carried, Residual
from unabridged.positions import sinusoidal
from unabridged.training.compact_layers import Block, first_weights
from unabridged.training.corpus import Batch

__all__ = ["Architecture", "CompactEncoder", "Positions", "Shape", "logits_at"]

Architecture = Literal["post-norm", "pre-norm", "realformer"]
Positions = Literal["learned", "sinusoidal"]

_SPREAD = 0.02  # standard deviation of first weights: Devlin et al. (2019)


@dataclass(frozen=True)
class Shape:
    """What an encoder is made of.

    Attributes:
        vocabulary: V.
        width: D, a multiple of heads.
        layers: how many blocks.
        heads: of each block.
        hidden: width inside the feed-forward part; 0 for 4 D.
        length: longest input, in tokens.
        architecture: "post-norm" (BERT; Devlin et al. 2019), "pre-norm" (Xiong et al. 2020) or
            "realformer" (post-norm, every layer adding its scores to those before; He et al. 2021).
        positions: a learned table, or sinusoids that stay as they are.
        dropout: of states, after embedding and both parts of a block. Dropout of attention's
            probabilities is a setting of `Residual`.
    """

    vocabulary: int
    width: int = 128
    layers: int = 4
    heads: int = 4
    hidden: int = 0
    length: int = 128
    architecture: Architecture = "post-norm"
    positions: Positions = "learned"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for name, choices in (("architecture", Architecture), ("positions", Positions)):
            if getattr(self, name) not in get_args(choices):
                wanted = ", ".join(get_args(choices))
                raise ValueError(f"Shape: {name} is {getattr(self, name)!r}; wanted {wanted}.")
        if self.width % (2 * self.heads):
            raise ValueError(
                f"Shape: width is {self.width}; wanted a multiple of twice the {self.heads} heads."
            )

    @property
    def feed_forward(self) -> int:
        """Width inside the feed-forward part."""
        return self.hidden or 4 * self.width


class CompactEncoder(nn.Module):
    """A masked language model whose body gives token states.

    Equal shapes and seeds give equal weights, whatever the architecture: what two architectures
    have in common starts the same.

    Args:
        shape: see there.
        seed: of the first weights.
        attention: None for `Exact()`, and for RealFormer `Residual()`. RealFormer takes a
            `Residual` only, of any mode with a gradient.

    >>> model = CompactEncoder(Shape(vocabulary=97, width=16, layers=2, heads=2, length=11), seed=0)
    >>> ids = torch.arange(10).view(2, 5)
    >>> model.states(ids).shape, model(ids).shape
    (torch.Size([2, 5, 16]), torch.Size([2, 5, 97]))
    """

    def __init__(self, shape: Shape, *, seed: int, attention: Attention | None = None) -> None:
        super().__init__()
        self.shape = shape
        self.attention = _attention(shape, attention)
        self.words = nn.Embedding(shape.vocabulary, shape.width)
        self.places = nn.Embedding(shape.length, shape.width)
        self.embedding_norm = nn.LayerNorm(shape.width, eps=1e-12)
        order: Literal["after", "before"] = (
            "before" if shape.architecture == "pre-norm" else "after"
        )
        self.blocks = nn.ModuleList(
            Block(shape.width, shape.heads, shape.feed_forward, norm=order, dropout=shape.dropout)
            for _ in range(shape.layers)
        )
        self.head = nn.Linear(shape.width, shape.width)
        self.head_norm = nn.LayerNorm(shape.width, eps=1e-12)
        self.head_bias = nn.Parameter(torch.zeros(shape.vocabulary))
        self.last_norm = nn.LayerNorm(shape.width, eps=1e-12) if order == "before" else None
        first_weights(self, spread=_SPREAD, generator=torch.Generator().manual_seed(seed))
        if shape.positions == "sinusoidal":
            # As large as learned rows begin; at their own size they would drown the words.
            table = sinusoidal(shape.length, shape.width) * (_SPREAD * math.sqrt(2))
            self.places.weight = nn.Parameter(table, requires_grad=False)

    def states(self, ids: Tensor, real: Tensor | None = None) -> Tensor:
        """Token states (B, T, D).

        Args:
            ids: (B, T), T at most the shape's length.
            real: (B, T) bool, True where a token is; None where all are.
        """
        if ids.shape[1] > self.shape.length:
            raise ValueError(
                f"CompactEncoder: got {ids.shape[1]} tokens, wanted at most {self.shape.length}; "
                "cut them, or make it with a larger length."
            )
        states: Tensor = self.words(ids) + self.places.weight[: ids.shape[1]]
        states = F.dropout(self.embedding_norm(states), self.shape.dropout, self.training)
        earlier: Carried | None = None
        handing_on = self.shape.architecture == "realformer"
        for block in self.blocks:
            states, scores = block(states, real, self.attention, earlier)
            earlier = scores if handing_on else None
        if self.last_norm is not None:
            states = self.last_norm(states)
        return states

    def guess(self, states: Tensor) -> Tensor:
        """Logits (…, V) of token states (…, D), with the word table as the last matrix."""
        features = self.head_norm(F.gelu(self.head(states)))
        return F.linear(features, self.words.weight, self.head_bias)

    def forward(self, ids: Tensor, real: Tensor | None = None) -> Tensor:
        """Logits (B, T, V) at every place."""
        return self.guess(self.states(ids, real))


def logits_at(model: nn.Module, batch: Batch, chosen: Tensor) -> Tensor:
    """Logits (M, V) of a `CompactEncoder` at the chosen places (B, T) alone."""
    assert isinstance(model, CompactEncoder)
    real = None if bool(batch.real.all()) else batch.real
    return model.guess(model.states(batch.ids, real)[chosen])


def _attention(shape: Shape, attention: Attention | None) -> Attention:
    if shape.architecture != "realformer":
        return Exact() if attention is None else attention
    attention = Residual() if attention is None else attention
    if not isinstance(attention, Residual):
        raise ValueError(
            f"CompactEncoder: attention is {attention}; RealFormer hands scores on, so wrap it as "
            "Residual('concatenated', attention=…)."
        )
    return attention
