"""Why a classifier says what it says: by passages, and by training documents; and which labels lie.

Both accounts explain the same number, the lead: the output of the predicted class less that of the
runner-up. The head is linear, so the lead is the bias plus a share of every passage; and by the
ledger of its training it is a sum over training documents plus decay, rounding and residual.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from unabridged._reading import Reading, Span
from unabridged.attribution import Entry, path_kernel, suspects
from unabridged.classification.classifier import Classifier, Prediction

__all__ = ["PassageShare", "Suspect", "Why", "doubtful", "explain"]


@dataclass(frozen=True)
class PassageShare:
    """What one passage adds to the lead, and its place in the document's text."""

    amount: float
    chars: Span


@dataclass(frozen=True)
class Why:
    """Two accounts of one lead; each sums to it.

    Attributes:
        prediction: what is explained.
        lead: output of the predicted class less that of the runner-up.
        bias: what the head says without any document.
        passages: in the order of the document; with `bias` they sum to the lead.
        entries: the ledger's lines: the start, training documents, decay, rounding, residual.
    """

    prediction: Prediction
    lead: float
    bias: float
    passages: tuple[PassageShare, ...]
    entries: tuple[Entry, ...]

    @property
    def residual(self) -> float:
        """What the ledger leaves unexplained."""
        return self.entries[-1].amount


@dataclass(frozen=True)
class Suspect:
    """A training document whose label the others do not support.

    Attributes:
        document: its id.
        label: as it was given.
        instead: the class that the head would rather give.
        support: log-odds of its label without its own contribution; negative speaks against it.
        loss: its training loss at the end.
    """

    document: str
    label: str
    instead: str
    support: float
    loss: float


def explain(classifier: Classifier, reading: Reading, *, count: int = 10) -> Why:
    """Explain the label of one document.

    Args:
        classifier: a trained one.
        reading: the document as the classifier's encoder reads it.
        count: training documents shown one by one; the others share a line.
    """
    rows = classifier.standardised(reading.vectors)
    prediction = classifier.predict(rows)
    first = classifier.classes.index(prediction.label)
    second = classifier.classes.index(prediction.runner_up)

    def lead(outputs: Tensor, _: Tensor) -> Tensor:
        return outputs[:, first] - outputs[:, second]

    whole = rows.double().mean(0)[None]
    ledger = path_kernel(classifier.replay(), whole, torch.tensor([first]), target=lead)
    names = dict(enumerate(classifier.documents))
    entries = tuple(ledger.entries(0, count=count, names=names))
    head = classifier.head().double()
    weight = (head.weight[first] - head.weight[second]).detach()
    bias = float((head.bias[first] - head.bias[second]).detach())
    shares = (rows.double() @ weight / len(rows)).tolist()
    spans = [(int(start), int(end)) for start, end in reading.passage_chars]
    passages = (PassageShare(*pair) for pair in zip(shares, spans, strict=True))
    return Why(prediction, math.fsum([bias, *shares]), bias, tuple(passages), entries)


def doubtful(classifier: Classifier, *, limit: int | None = None) -> list[Suspect]:
    """Training documents, the most doubtful label first.

    Args:
        classifier: a trained one.
        limit: at most so many; None for all.
    """
    every = torch.arange(len(classifier.documents))
    replay = classifier.replay()
    found = suspects(replay, every, classifier.features, classifier.labels)
    with torch.no_grad():
        outputs = classifier.head()(classifier.features)
    others = outputs.scatter(1, classifier.labels[:, None], float("-inf")).argmax(1).tolist()
    supports, losses = found.others.tolist(), found.loss.tolist()
    order = found.others.argsort().tolist()[:limit]
    return [
        Suspect(
            document=classifier.documents[place],
            label=classifier.classes[int(classifier.labels[place])],
            instead=classifier.classes[others[place]],
            support=supports[place],
            loss=losses[place],
        )
        for place in order
    ]
