"""Train the last layers of the encoder together with the head, on whole documents, recorded.

Every optimiser step takes `DOCUMENTS` documents in as many passes as the memory budget needs; the
gradient is that of their mean loss, whatever the passes. A single document must fit the budget in
the replay's double precision, or it is refused beforehand: no document is cut.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from unabridged.attribution import Loop, Recorder
from unabridged.classification.classifier import Classifier
from unabridged.classification.errors import ClassifierError
from unabridged.classification.training import Trained, read_texts
from unabridged.classification.tuned import (
    LayersAndHead,
    StateData,
    TunedClassifier,
    keep_states,
    padded,
)
from unabridged.encoder import LongEncoder
from unabridged.encoder.trainable import States, Top, split_encoder

__all__ = ["BUDGET", "DOCUMENTS", "EVERY", "Tuning", "refuse_too_long", "tune", "tuning_optimizer"]

BUDGET = 2 << 30
DOCUMENTS, EVERY = 16, 5
"""Documents of an optimiser step, and steps between checkpoints."""


@dataclass(frozen=True)
class Tuning:
    """How layers and head are trained.

    Attributes:
        layers: how many of the encoder's last layers.
        epochs: passes over the documents, more where these are fewer than `steps`.
        steps: optimiser steps at least.
        rate: of the layers.
        head_rate: of the head.
        budget: bytes for the intermediate results of a replay.
    """

    layers: int = 1
    epochs: int = 4
    steps: int = 40
    rate: float = 1e-3
    head_rate: float = 1e-2
    budget: int = BUDGET

    def steps_of(self, documents: int) -> int:
        """Optimiser steps on so many documents: whole passes over them.

        >>> Tuning().steps_of(20), Tuning().steps_of(1600)
        (40, 400)
        """
        an_epoch = math.ceil(documents / DOCUMENTS)
        return an_epoch * max(self.epochs, math.ceil(self.steps / an_epoch))


def tune(
    folder: Path,
    labels: Mapping[str, str],
    encoder: LongEncoder,
    *,
    into: Path,
    tuning: Tuning | None = None,
    seed: int = 0,
) -> Trained:
    """Read the labelled documents of a folder, and train the encoder's last layers with a head.

    Args:
        folder: with the documents.
        labels: label by path relative to `folder`.
        encoder: one that reads independent chunks and pools by the mean.
        into: folder of the classifier; an older one in it is replaced once this one is trained.
        tuning: rates, layers, memory; None for the defaults.
        seed: of the order of documents.

    Raises:
        ClassifierError: fewer than two classes, or a document too long for the budget.
        ModelError: an encoder that cannot be split.
    """
    tuning = tuning or Tuning()
    texts, failed = read_texts(folder, labels)
    bottom, top = split_encoder(encoder, layers=tuning.layers)
    refuse_too_long({name: encoder.count_tokens(text) for name, text in texts.items()}, top, tuning)
    beside = into.with_name(into.name + ".part")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    means: list[Tensor] = []
    documents = (states for _, states in bottom.read_many(texts.values()))
    passages = keep_states(_watched(documents, top, means), beside / "states")
    made = _described(beside, texts, labels, torch.stack(means), encoder, tuning)
    model = LayersAndHead(top, len(made.classes), made.centre, made.scale)
    accuracy = _fit(made, model, passages, tuning, seed)
    made.save()
    shutil.rmtree(into, ignore_errors=True)
    beside.replace(into)
    return Trained(TunedClassifier.open(into).with_encoder(encoder), accuracy, tuple(failed))


def refuse_too_long(tokens: Mapping[str, int], top: Top, tuning: Tuning) -> None:
    """Raise where the longest document does not fit the budget."""
    name = max(tokens, key=lambda one: tokens[one])
    needed = 8 * tokens[name] * top.numbers_a_row
    if needed > tuning.budget:
        raise ClassifierError(
            f"{name} has {tokens[name]:,} tokens, and training layers on it takes "
            f"{needed / 1e9:.1f} GB where the budget is {tuning.budget / 1e9:.1f}; raise the "
            "budget, or train the head alone, which takes documents of any length."
        )


def tuning_optimizer(model: LayersAndHead, tuning: Tuning) -> torch.optim.Optimizer:
    """SGD with momentum, with a rate of its own for the head.

    Adam would divide gradients that are zero but for rounding, such as those of key biases, by
    their own size, and no replay in another precision could follow it.
    """
    groups = [
        {"params": list(model.top.parameters()), "lr": tuning.rate},
        {"params": list(model.head.parameters()), "lr": tuning.head_rate},
    ]
    return torch.optim.SGD(groups, momentum=0.9, weight_decay=1e-4)


def _watched(documents: Iterator[States], top: Top, means: list[Tensor]) -> Iterator[States]:
    """Hand documents on, and keep the vector that the untrained encoder gives each."""
    for one in documents:
        with torch.no_grad():
            means.append(top(**padded([one]))[0].mean(0))
        yield one


def _described(
    folder: Path,
    texts: Mapping[str, str],
    labels: Mapping[str, str],
    means: Tensor,
    encoder: LongEncoder,
    tuning: Tuning,
) -> TunedClassifier:
    classes = tuple(sorted({labels[name] for name in texts}))
    target = torch.tensor([classes.index(labels[name]) for name in texts])
    features, centre, scale = Classifier.standardisation(means)
    parts = (folder, classes, tuple(texts), target, features, centre, scale, encoder.fingerprint)
    return TunedClassifier(*parts, layers=tuning.layers, encoder=encoder)


def _fit(
    made: TunedClassifier, model: LayersAndHead, passages: Sequence[int], tuning: Tuning, seed: int
) -> float:
    """Train and record; the share of training documents labelled right."""
    optimizer = tuning_optimizer(model, tuning)
    limit = tuning.budget // (8 * 128 * model.top.numbers_a_row)
    generator = torch.Generator().manual_seed(seed)
    settings = Loop(weighting="step-mean", clip_norm=1.0)
    run = made.folder / "run"
    data = made.states
    with Recorder(model, optimizer, run, loop=settings, data=data, every=EVERY) as recorder:
        for ids in _steps(len(passages), tuning, generator):
            optimizer.zero_grad()
            parts = _passes(ids.tolist(), passages, limit)
            for number, part in enumerate(parts, start=1):
                rows, wanted = recorder.fetch(torch.tensor(part))
                outputs = model(**rows)  # type: ignore[arg-type]
                loss = nn.functional.cross_entropy(outputs, wanted, reduction="sum") / len(ids)
                loss.backward()  # type: ignore[no-untyped-call]
                if number == len(parts):
                    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                    optimizer.step()
                recorder.step(torch.tensor(part), rows, wanted)
    return _accuracy(model, data, len(passages))


def _steps(count: int, tuning: Tuning, generator: torch.Generator) -> Iterator[Tensor]:
    an_epoch = math.ceil(count / DOCUMENTS)
    for _ in range(tuning.steps_of(count) // an_epoch):
        yield from torch.split(torch.randperm(count, generator=generator), DOCUMENTS)


def _passes(ids: list[int], passages: Sequence[int], limit: int) -> list[list[int]]:
    """Documents of a step in passes of at most `limit` padded passages, alike in length.

    >>> _passes([0, 1, 2, 3], [5, 1, 4, 1], 8)
    [[1, 3], [2], [0]]
    """
    parts: list[list[int]] = []
    for number in sorted(ids, key=lambda one: (passages[one], one)):
        if parts and (len(parts[-1]) + 1) * passages[number] <= limit:
            parts[-1].append(number)
        else:
            parts.append([number])
    return parts


def _accuracy(model: LayersAndHead, data: StateData, count: int) -> float:
    right = 0
    with torch.no_grad():
        for number in range(count):
            rows, wanted = data(torch.tensor([number]))
            right += int(model(**rows).argmax(1) == wanted)  # type: ignore[arg-type]
    return right / count
