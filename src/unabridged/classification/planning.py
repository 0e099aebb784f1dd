"""What training a classifier would cost, before anything is spent."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from unabridged._reading import Reading
from unabridged.attribution import Estimate, cross_entropy_of, estimate
from unabridged.classification.training import BATCH, read_texts, steps_of, untrained
from unabridged.classification.tuned import LayersAndHead, padded
from unabridged.classification.tuning import (
    DOCUMENTS,
    EVERY,
    Tuning,
    refuse_too_long,
    tuning_optimizer,
)
from unabridged.encoder import LongEncoder
from unabridged.encoder.trainable import split_encoder

__all__ = ["Plan", "plan", "plan_tuning"]

SAMPLE = 20_000
"""Characters that are read to learn the speed of this machine: a second's work or less."""


class Counter(Protocol):
    """What is asked of an encoder; `LongEncoder` is one."""

    def read(self, text: str) -> Reading:
        """Passages of one text."""
        ...

    def count_tokens(self, text: str) -> int:
        """Tokens of a text."""
        ...


@dataclass(frozen=True)
class Plan:
    """The price of a classifier.

    Attributes:
        documents: that would be learned from.
        classes: labels, ascending.
        tokens: of all documents.
        reading: minutes to read them.
        training: the recording's price: bytes on disk, memory, minutes for training and one `why`.
        bytes: on disk in all, the documents' vectors included.
        failed: document and reason, for labelled documents that could not be read.
    """

    documents: int
    classes: tuple[str, ...]
    tokens: int
    reading: float
    training: Estimate
    bytes: int
    failed: tuple[tuple[str, str], ...]

    @property
    def minutes(self) -> float:
        """Reading and training together."""
        return self.reading + self.training.minutes


def plan(folder: Path, labels: Mapping[str, str], reader: Counter) -> Plan:
    """Open the labelled documents, count their tokens, and measure a sample and one step.

    Nothing is written.

    Args:
        folder: with the documents.
        labels: label by path relative to `folder`.
        reader: the encoder.

    Raises:
        ClassifierError: fewer than two classes among the documents that could be read.
    """
    texts, failed = read_texts(folder, labels)
    classes = tuple(sorted({labels[name] for name in texts}))
    tokens = sum(reader.count_tokens(text) for text in texts.values())
    speed, width = _speed(texts.values(), reader)
    head, optimizer = untrained(width, len(classes))
    rows = torch.zeros(min(BATCH, len(texts)), width)
    price = estimate(
        head,
        optimizer,
        (rows, torch.zeros(len(rows), dtype=torch.int64)),
        rows[:1],
        loss=cross_entropy_of,
        steps=steps_of(len(texts)),
        kept="ids",
    )
    vectors = 4 * width * (len(texts) + 1) + 8 * len(texts)
    reading = tokens / speed / 60
    size = price.bytes + vectors
    return Plan(len(texts), classes, tokens, reading, price, size, tuple(failed))


def plan_tuning(
    folder: Path, labels: Mapping[str, str], encoder: LongEncoder, tuning: Tuning
) -> Plan:
    """The same for layers and head; one step on a passage is measured, and multiplied.

    Raises:
        ClassifierError: fewer than two classes, or a document too long for the budget.
        ModelError: an encoder that cannot be split.
    """
    texts, failed = read_texts(folder, labels)
    classes = tuple(sorted({labels[name] for name in texts}))
    counts = {name: encoder.count_tokens(text) for name, text in texts.items()}
    bottom, top = split_encoder(encoder, layers=tuning.layers)
    refuse_too_long(counts, top, tuning)
    sample = next(bottom.read_many([next(iter(texts.values()))]))[1]
    passage = {name: tensor[:, :1] for name, tensor in padded([sample]).items()}
    width, tokens = encoder.dimension, sum(counts.values())
    model = LayersAndHead(top, len(classes), torch.zeros(width), 1.0)
    steps, rows = tuning.steps_of(len(texts)), sample.states.shape[1]
    one = estimate(
        model,
        tuning_optimizer(model, tuning),
        (passage, torch.zeros(1, dtype=torch.int64)),
        passage,
        loss=cross_entropy_of,
        steps=steps,
        every=EVERY,
        kept="ids",
    )
    speed, _ = _speed(texts.values(), encoder)
    epochs = steps / math.ceil(len(texts) / DOCUMENTS)
    passages = sum(math.ceil(count / rows) for count in counts.values())
    # The estimate of a step is for one passage; an epoch takes all of them.
    minutes = one.minutes / steps * passages * epochs
    memory = one.memory + 8 * max(counts.values()) * top.numbers_a_row
    states = passages * rows * width * sample.states.element_size()
    size = one.bytes + states + 4 * width * (len(texts) + 1)
    price = Estimate(one.bytes, memory, minutes)
    return Plan(len(texts), classes, tokens, tokens / speed / 60, price, size, tuple(failed))


def _speed(texts: Iterable[str], reader: Counter) -> tuple[float, int]:
    """Tokens a second, from the second of two readings, and D, the width of a vector."""
    sample = ""
    for text in texts:
        sample += text[: SAMPLE - len(sample)]
        if len(sample) >= SAMPLE:
            break
    reader.read(sample)
    began = time.perf_counter()
    reading = reader.read(sample)
    taken = time.perf_counter() - began
    return max(1, len(reading.token_ids)) / taken, reading.vectors.shape[1]
