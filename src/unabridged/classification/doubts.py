"""Which training documents have labels that look wrong."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from unabridged.attribution import suspects
from unabridged.classification.classifier import Classifier
from unabridged.classification.errors import ClassifierError
from unabridged.classification.tuned import TunedClassifier

__all__ = ["Suspect", "doubtful"]


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


def doubtful(classifier: Classifier, *, limit: int | None = None) -> list[Suspect]:
    """Training documents, the most doubtful label first.

    Args:
        classifier: a trained one.
        limit: at most so many; None for all.

    Raises:
        ClassifierError: layers were trained too: one ledger a training document, each over the
            whole run, would take longer than training; a head alone takes seconds.
    """
    if isinstance(classifier, TunedClassifier):
        raise ClassifierError(
            f"{classifier.folder} has trained layers, and a ledger of every training document "
            "would replay their training many times; train a head on the same labels "
            "(classify train --train head) and ask that for suspects."
        )
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
