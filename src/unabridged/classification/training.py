"""Train a head on the whole documents of a folder, recorded so that it can be explained."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unabridged._errors import DocumentError
from unabridged._reading import Reading
from unabridged.attribution import Loop, Recorder
from unabridged.classification.classifier import Classifier
from unabridged.classification.errors import ClassifierError
from unabridged.collection.documents import read_document

__all__ = ["Reader", "Trained", "fit", "read_texts", "steps_of", "train", "untrained"]

RATE, DECAY, BATCH = 0.1, 1e-3, 64
STEPS, EPOCHS = 200, 10
"""At least so many steps and so many passes over the documents."""


class Reader(Protocol):
    """What is asked of an encoder; `LongEncoder` is one."""

    @property
    def fingerprint(self) -> dict[str, str]:
        """Everything that changes a vector."""
        ...

    def read(self, text: str) -> Reading:
        """Passages of one text."""
        ...

    def read_many(
        self, texts: Iterable[str], *, on_tokens: Callable[[int], None] | None = None
    ) -> Iterator[Reading]:
        """Readings of many texts, in their order."""
        ...


@dataclass(frozen=True)
class Trained:
    """A new classifier, and what could not be used.

    Attributes:
        classifier: ready to predict.
        accuracy: share of the training documents that it labels as they were labelled.
        failed: document and reason, for labelled documents that could not be read.
    """

    classifier: Classifier
    accuracy: float
    failed: tuple[tuple[str, str], ...]


def train(
    folder: Path, labels: Mapping[str, str], reader: Reader, *, into: Path, seed: int = 0
) -> Trained:
    """Read the labelled documents of a folder and train a linear head on their vectors.

    Args:
        folder: with the documents.
        labels: label by path relative to `folder`.
        reader: the encoder.
        into: folder of the classifier; an older one in it is replaced once this one is trained.
        seed: of the head's start and the order of batches.

    Raises:
        ClassifierError: fewer than two classes among the documents that could be read.
    """
    texts, failed = read_texts(folder, labels)
    vectors = np.stack([reading.vectors.mean(0) for reading in reader.read_many(texts.values())])
    made, accuracy = fit(
        vectors, {name: labels[name] for name in texts}, reader.fingerprint, into, seed=seed
    )
    return Trained(made, accuracy, tuple(failed))


def fit(
    vectors: NDArray[np.float32],
    labels: Mapping[str, str],
    fingerprint: dict[str, str],
    into: Path,
    *,
    seed: int = 0,
) -> tuple[Classifier, float]:
    """Train a head on the vectors of documents, one a document.

    Args:
        vectors: (n, D), in the order of `labels`.
        labels: label by document.
        fingerprint: of the encoder that made the vectors.
        into: folder of the classifier; an older one in it is replaced once this one is trained.
        seed: of the order of batches.

    Returns:
        The classifier, and the share of the documents that it labels as they were labelled.
    """
    classes = tuple(sorted(set(labels.values())))
    raw = torch.as_tensor(vectors, dtype=torch.float32)
    features, centre, scale = Classifier.standardisation(raw)
    target = torch.tensor([classes.index(label) for label in labels.values()])
    beside = into.with_name(into.name + ".part")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    parts = (beside, classes, tuple(labels), target, features, centre, scale, fingerprint)
    accuracy = _fit(Classifier(*parts), seed)
    Classifier(*parts).save()
    shutil.rmtree(into, ignore_errors=True)
    beside.replace(into)
    return Classifier.open(into), accuracy


def read_texts(
    folder: Path, labels: Mapping[str, str]
) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """The texts of labelled documents by name, and name and reason of those that have none.

    Raises:
        ClassifierError: fewer than two classes among the documents that could be read.
    """
    texts: dict[str, str] = {}
    failed: list[tuple[str, str]] = []
    for name in labels:
        path = folder / name
        try:
            if not path.is_file():
                raise DocumentError(f"no such file in {folder}")
            texts[name] = read_document(path, folder).text
        except DocumentError as error:
            failed.append((name, str(error)))
    classes = {labels[name] for name in texts}
    if len(classes) < 2:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in failed[:3])
        raise ClassifierError(
            f"{folder}: {len(texts)} labelled documents could be read, with {len(classes)} "
            f"different labels; wanted at least 2 ({reasons or 'check the names in the labels'})."
        )
    return texts, failed


def _fit(classifier: Classifier, seed: int) -> float:
    """Train and record; the share of training documents labelled right."""
    features, labels = classifier.features, classifier.labels
    generator = torch.Generator().manual_seed(seed)
    head, optimizer = untrained(features.shape[1], len(classifier.classes))
    run = classifier.folder / "run"
    with Recorder(head, optimizer, run, loop=Loop(), data=classifier.data) as recorder:
        for ids in _batches(len(labels), generator):
            rows, wanted = recorder.fetch(ids)
            optimizer.zero_grad()
            nn.functional.cross_entropy(head(rows), wanted).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            recorder.step(ids, rows, wanted)
    with torch.no_grad():
        return float((head(features).argmax(1) == labels).float().mean())


def untrained(width: int, classes: int) -> tuple[nn.Linear, torch.optim.Optimizer]:
    """A head of zeros, and what trains it."""
    head = nn.Linear(width, classes)
    with torch.no_grad():
        head.weight.zero_()
        head.bias.zero_()
    rate = RATE * min(1.0, 384 / width)
    return head, torch.optim.SGD(head.parameters(), lr=rate, weight_decay=DECAY)


def steps_of(count: int) -> int:
    """How many optimiser steps a head takes on so many documents: whole passes over them.

    >>> steps_of(20), steps_of(6400)
    (200, 1000)
    """
    an_epoch = math.ceil(count / BATCH)
    return an_epoch * max(EPOCHS, math.ceil(STEPS / an_epoch))


def _batches(count: int, generator: torch.Generator) -> Iterator[Tensor]:
    an_epoch = math.ceil(count / BATCH)
    for _ in range(steps_of(count) // an_epoch):
        yield from torch.split(torch.randperm(count, generator=generator), BATCH)
