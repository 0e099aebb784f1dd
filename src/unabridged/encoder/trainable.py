"""An encoder in two parts: a frozen bottom that reads texts once, and last layers to be trained.

The bottom keeps, for every passage, the states that go into the last layers; the top turns them
into passage vectors as plain modules that autograd can differentiate twice (attention is written
out: PyTorch's fused kernels have no second derivative). Together they give the encoder's vectors.

Axes: N documents, P passages, R rows of a passage (special tokens included), D width.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers.activations import ACT2FN

from unabridged._errors import ModelError
from unabridged._reading import Reading
from unabridged.encoder.forward import Forward
from unabridged.encoder.long_encoder import _DOCUMENT_PROMPTS, LongEncoder
from unabridged.encoder.pooling import Head
from unabridged.encoder.reading import Chunks
from unabridged.encoder.surgery import Architecture, Layer
from unabridged.encoder.token_scores import can_score_tokens

__all__ = ["Bottom", "States", "Top", "split_encoder"]


@dataclass(frozen=True)
class States:
    """What a top takes of one document.

    Attributes:
        states: (P, R, D) float32 or bfloat16, rows beyond a passage's end are zero.
        rows: (P,) int64, rows of every passage.
    """

    states: Tensor
    rows: Tensor


class Top(nn.Module):
    """The last layers, pooling and scaling of an encoder: states to passage vectors.

    Args:
        architecture: of the encoder.
        layers: how many of its last layers; copied, and trainable.
        scaled: whether vectors have length 1.
        longest: the largest R.

    Attributes:
        numbers_a_row: what autograd keeps of a row, and per-row gradients need, at most.
    """

    bias: Tensor

    def __init__(
        self, architecture: Architecture, layers: int, *, scaled: bool, longest: int
    ) -> None:
        super().__init__()
        chosen = architecture.layers[len(architecture.layers) - layers :]
        self.blocks = nn.ModuleList(_Block(copy.deepcopy(layer), architecture) for layer in chosen)
        self.scaled = scaled
        up = chosen[0].up
        self.numbers_a_row = layers * (
            12 * up.in_features + 5 * up.out_features + 2 * architecture.heads * longest
        )
        place = torch.arange(longest)
        bias = architecture.position_bias
        known = torch.zeros(1, 1, 1) if bias is None else bias(place, place).detach().clone()
        self.register_buffer("bias", known)

    def forward(self, states: Tensor, rows: Tensor) -> Tensor:
        """(N, P, D) passage vectors, from (N, P, R, D) states and (N, P) rows; no rows give 0."""
        tokens, real = self.tokens(states, rows), _real(states, rows)
        total = torch.einsum("nprd,npr->npd", tokens, real.to(tokens.dtype))
        vectors = total / rows.clamp(min=1)[..., None].to(tokens.dtype)
        exists = (rows > 0)[..., None].to(tokens.dtype)
        if self.scaled:  # a vector of ones stands in where a length of 0 would have no derivative
            vectors = normalize(vectors + (1 - exists), dim=-1)
        return vectors * exists

    def tokens(self, states: Tensor, rows: Tensor) -> Tensor:
        """(N, P, R, D) the last layer's states; those beyond a passage's end mean nothing."""
        n, p, r, d = states.shape
        flat = states.reshape(n * p, r, d)
        outside = ~_real(states, rows).view(n * p, 1, 1, r)
        bias = self.bias[:, :r, :r].to(states.dtype)
        scores = torch.zeros_like(outside, dtype=states.dtype).masked_fill(outside, -1e30) + bias
        for block in self.blocks:
            flat = block(flat, scores)
        return flat.view(n, p, r, d)


def _real(states: Tensor, rows: Tensor) -> Tensor:
    return torch.arange(states.shape[2]) < rows[..., None]


class _Block(nn.Module):
    """One post-norm transformer block, attention written out."""

    query: nn.Linear
    key: nn.Linear
    value: nn.Linear
    attention_output: nn.Linear
    attention_norm: nn.LayerNorm
    up: nn.Linear
    down: nn.Linear
    output_norm: nn.LayerNorm

    def __init__(self, layer: Layer, architecture: Architecture) -> None:
        super().__init__()
        for name, module in vars(layer).items():
            self.add_module(name, module.requires_grad_(True))
        self.heads = architecture.heads
        self.activate = ACT2FN[architecture.activation]

    def forward(self, states: Tensor, bias: Tensor) -> Tensor:
        """(B, R, D) to (B, R, D), with (B or 1, H or 1, R or 1, R) added to the scores."""
        shape = (*states.shape[:2], self.heads, -1)
        query, key, value = (
            project(states).view(shape).transpose(1, 2)
            for project in (self.query, self.key, self.value)
        )
        scores = query @ key.mT / query.shape[-1] ** 0.5 + bias
        mixed = (scores.softmax(-1) @ value).transpose(1, 2).reshape(states.shape)
        states = self.attention_norm(self.attention_output(mixed) + states)
        out: Tensor = self.output_norm(self.down(self.activate(self.up(states))) + states)
        return out


@dataclass(frozen=True)
class Bottom:
    """Everything below the top; frozen."""

    encoder: LongEncoder
    layers: int

    def read_many(self, texts: Iterable[str]) -> Iterator[tuple[Reading, States]]:
        """Readings of texts, without vectors, and their states below the top."""
        pipeline, reader = self.encoder._pipeline, self.encoder.reader
        prefix, suffix = pipeline.tokenizer.specials
        prompt = self.encoder._named_prompt(_DOCUMENT_PROMPTS)
        around = len(prefix) + len(suffix) + (self.encoder.count_tokens(prompt) if prompt else 0)
        whole = pipeline.forward._architecture
        lower = replace(whole, layers=whole.layers[: len(whole.layers) - self.layers])
        longest = _passage(self.encoder) + around
        keeping = _Keeping(**vars(pipeline.head), longest=longest)
        forward = Forward(lower, self.encoder.dtype)
        below = replace(pipeline, head=keeping, forward=forward, layers=len(lower.layers))
        for reading in below.read_many(texts, reader, prompt=prompt):
            flat = torch.from_numpy(reading.vectors).view(len(reading), longest, -1)
            tokens = torch.from_numpy(reading.passage_tokens)
            rows = tokens[:, 1] - tokens[:, 0] + around
            empty = np.empty((len(reading), 0), np.float32)
            yield replace(reading, vectors=empty), States(flat.to(self.encoder.dtype), rows)


@dataclass(frozen=True)
class _Keeping(Head):
    """Stands in for a head: gives all states of a block, padded and flattened."""

    longest: int = field(default=0)

    def __call__(self, states: Tensor, prompt_rows: slice) -> Tensor:
        del prompt_rows
        missing = self.longest - states.shape[1]
        return torch.nn.functional.pad(states.float(), (0, 0, 0, missing)).flatten(1)


def split_encoder(encoder: LongEncoder, *, layers: int = 1) -> tuple[Bottom, Top]:
    """The frozen bottom of an encoder and a trainable copy of its last layers.

    Args:
        encoder: one that reads independent chunks and pools by the mean.
        layers: how many layers the top has; at least 1.

    Raises:
        ModelError: another reader, another attention, or another pooling.
        ValueError: more layers than there are, or none.
    """
    architecture = encoder._pipeline.forward._architecture
    head = encoder._pipeline.head
    if not isinstance(encoder.reader, Chunks) or encoder.attention is not None:
        raise ModelError(
            f"split_encoder: this encoder reads by {type(encoder.reader).__name__} with attention "
            f"{encoder.attention}; wanted independent chunks and exact attention, so open the "
            "model with reader='chunks'."
        )
    if not can_score_tokens(encoder) or not head.include_prompt:
        raise ModelError(
            f"split_encoder: this model pools by {', '.join(head.modes)} with {len(head.modules)} "
            "layers after it; wanted the mean of all rows and none."
        )
    if architecture.gates:
        raise ModelError(
            "split_encoder: this model is residual, and its last layers need the scores of all "
            "before; train the head alone."
        )
    if not 1 <= layers <= len(architecture.layers):
        raise ValueError(
            f"split_encoder: layers is {layers}; wanted 1 to {len(architecture.layers)}."
        )
    longest = _passage(encoder) + 64
    top = Top(architecture, layers, scaled=head.normalize, longest=longest)
    return Bottom(encoder, layers), top


def _passage(encoder: LongEncoder) -> int:
    if not isinstance(encoder.reader, Chunks):
        raise ModelError("Bottom: wanted an encoder that reads independent chunks.")
    return encoder.reader.passage
