"""Receipts of an attention in a model, on a text: every layer and head, the vector, the seconds.

The text passes twice. In the first pass exact attention goes on from layer to layer, and each
layer's queries, keys and values are handed to the other attention too, so that a head's error is
its own and not what it inherited. In the second pass the other attention goes on by itself; its
vector beside the exact one says what all errors together do.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from unabridged.attention.choices import describe, make_attention
from unabridged.attention.exact import Exact
from unabridged.attention.protocol import Attention
from unabridged.attention.receipts import HeadReceipt, head_receipts
from unabridged.attention.sampling import sampled_rows
from unabridged.encoder.loading import load_weights
from unabridged.encoder.long_encoder import LongEncoder
from unabridged.encoder.reading import Full
from unabridged.encoder.surgery import dissect

__all__ = ["LayerReceipt", "Receipt", "measure_attention"]

SPECIALS = 2
"""Every family here puts one token before a text and one after it."""


@dataclass(frozen=True)
class LayerReceipt:
    """One layer's attention.

    Attributes:
        heads: what each of its heads lost.
        seconds: that the chosen attention took, for all heads.
        seconds_exact: that exact attention took.
    """

    heads: tuple[HeadReceipt, ...]
    seconds: float
    seconds_exact: float


@dataclass(frozen=True)
class Receipt:
    """What an attention changed in a model on a text.

    Attributes:
        model: as it was asked for.
        attention: its name and settings, as JSON.
        tokens: of the text, special ones included.
        rows: how many queries of every head were compared.
        cosine: between the text's vectors with exact and with the chosen attention.
        seconds: of the whole pass with the chosen attention.
        seconds_exact: of the whole pass with exact attention.
        layers: one receipt each, in order.
    """

    model: str
    attention: str
    tokens: int
    rows: int
    cosine: float
    seconds: float
    seconds_exact: float
    layers: tuple[LayerReceipt, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def measure_attention(
    text: str,
    attention: str | Attention,
    *,
    model: str | os.PathLike[str] | None = None,
    rows: int = 128,
    seed: int = 1,
) -> Receipt:
    """Read a text with exact and with another attention, and compare, in float32.

    Memory grows with the text and not with its square. Time is that of an exact pass and three
    of the other.

    Args:
        text: one document that fits the model's positions.
        attention: a name of `unabridged.attention.choices`, or an attention with its settings.
        model: a folder or Hub id; None for the packaged default.
        rows: queries of every head that are compared; all, where there are fewer.
        seed: of their choice; by default another one than `Auto` tests with, which would be its
            own judge.

    Raises:
        ModelError: no such model, or one with relative position biases (MPNet).
        ValueError: the text is longer than the model's positions, or empty.

    >>> receipt = measure_attention("Nothing is cut. " * 20, "favor", rows=16)
    >>> receipt.tokens, len(receipt.layers), len(receipt.layers[0].heads)
    (82, 6, 12)
    >>> 0 < receipt.layers[0].heads[0].error < receipt.layers[0].heads[0].error_of_mean
    True
    """
    chosen = make_attention(attention)
    witness = _Witness(chosen, rows=rows, seed=seed)
    exact = LongEncoder(model, reader=Full(), dtype="float32", attention=witness)
    _check_length(exact, text)
    witness.forget()  # an encoder reads an empty text when it is made
    wanted, seconds_witnessed = _timed(lambda: torch.as_tensor(exact.encode(text)))
    other = LongEncoder(model, reader=Full(), dtype="float32", attention=chosen)
    got, seconds = _timed(lambda: torch.as_tensor(other.encode(text)))
    return Receipt(
        model=exact.checkpoint.name,
        attention=describe(chosen),
        tokens=witness.tokens,
        rows=min(rows, witness.tokens),
        cosine=float(torch.cosine_similarity(got.double(), wanted.double(), dim=0)),
        seconds=seconds,
        seconds_exact=seconds_witnessed - witness.seconds_of_its_own,
        layers=tuple(witness.layers),
    )


def _check_length(encoder: LongEncoder, text: str) -> None:
    tokens = encoder.count_tokens(text)
    if not tokens:
        raise ValueError("attention: the text is empty; pass one that holds some words.")
    positions = dissect(load_weights(encoder.checkpoint)).positions
    if tokens + SPECIALS > positions:
        raise ValueError(
            f"attention: the text has {tokens:,} tokens and the model {positions:,} positions; "
            "wanted a text that fits one pass, so give the model more with `unabridged extend`."
        )


@dataclass
class _Witness:
    """Exact attention that hands its arguments to another one and writes down what comes back."""

    chosen: Attention
    rows: int
    seed: int
    tokens: int = 0
    seconds_of_its_own: float = 0.0
    layers: list[LayerReceipt] = field(default_factory=list)

    def forget(self) -> None:
        """Begin anew."""
        self.layers.clear()
        self.seconds_of_its_own = 0.0

    def __call__(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        key_mask: Tensor | None = None,  # noqa: ARG002  one text at a time, without padding
        causal: bool = False,  # noqa: ARG002
        scale: float | None = None,
    ) -> Tensor:
        mixed, seconds_exact = _timed(lambda: Exact()(query, key, value, scale=scale))
        began = time.perf_counter()
        _, seconds = _timed(lambda: self.chosen(query, key, value, scale=scale))
        self.tokens = query.shape[2]
        rows = sampled_rows(self.tokens, self.rows, seed=self.seed)
        heads = head_receipts(self.chosen, query, key, value, rows=rows, scale=scale)
        self.layers.append(LayerReceipt(tuple(heads), seconds, seconds_exact))
        self.seconds_of_its_own += time.perf_counter() - began
        return mixed


def _timed(work: Callable[[], Tensor]) -> tuple[Tensor, float]:
    began = time.perf_counter()
    done = work()
    return done, time.perf_counter() - began
