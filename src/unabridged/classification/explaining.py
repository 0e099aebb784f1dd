"""Why a classifier says what it says: by passages and tokens, and by training documents.

Both accounts explain the same number, the lead: the output of the predicted class less that of the
class it is compared with. The head is linear, so the lead is the bias plus a share of every
passage; and by the ledger of its training it is a sum over training documents plus decay, rounding
and residual.

A training document's contribution is its weight in training times its alikeness to the document
asked about. A copy of that document is as alike as can be, but has little weight where the head
found it easy, so that the sum alone would hide it. Therefore the most alike document stands first,
with all twins, whatever they contributed; the others follow in the order asked for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from unabridged._reading import Reading, Span
from unabridged.attribution import Ledger, adjoint, alikeness, path_kernel
from unabridged.attribution.targets import Target
from unabridged.classification.classifier import Classifier, Prediction
from unabridged.classification.errors import ClassifierError
from unabridged.classification.question import Question

__all__ = ["Line", "Order", "PassageShare", "Taught", "Why", "explain"]

Order = Literal["contribution", "alike", "removal"]
"""What decides the order of training documents after the most alike one: what each added to the
lead, how alike it is to the document, or how far the lead would move had it been left out."""

TWIN = 0.99
"""Alikeness from which a training document is taken for the same text, or nearly."""

EQUAL = 1e-9
"""Alikenesses so close are those of equal vectors."""


@dataclass(frozen=True)
class PassageShare:
    """What one passage adds to the lead, and its place in the document's text."""

    amount: float
    chars: Span


@dataclass(frozen=True)
class Taught:
    """What one training document has to do with the lead.

    Attributes:
        document: its id.
        label: what it was trained with.
        amount: what it added to the lead in training.
        alike: to the document asked about, 1 for a copy; see `unabridged.attribution.alikeness`.
        without: the lead had it been left out, to first order; None where that was not asked for.
    """

    document: str
    label: str
    amount: float
    alike: float
    without: float | None = None

    @property
    def twin(self) -> bool:
        """Whether it is the document asked about, or nearly."""
        return self.alike >= TWIN


@dataclass(frozen=True)
class Line:
    """One line of a sum."""

    label: str
    amount: float


@dataclass(frozen=True)
class Why:
    """Two accounts of one lead; each sums to it.

    Attributes:
        prediction: what is explained.
        against: the class that the label is compared with.
        lead: output of the predicted class less that of `against`.
        bias: what the head says without any document.
        passages: in the order of the document; with `bias` they sum to the lead.
        taught: training documents shown one by one, the most alike first.
        lines: the whole ledger: before training, those documents, all others, weight decay,
            rounding, and the residual last.
    """

    prediction: Prediction
    against: str
    lead: float
    bias: float
    passages: tuple[PassageShare, ...]
    taught: tuple[Taught, ...]
    lines: tuple[Line, ...]

    @property
    def residual(self) -> float:
        """What the ledger leaves unexplained."""
        return self.lines[-1].amount


def explain(
    classifier: Classifier,
    document: Reading | Question,
    *,
    count: int = 10,
    by: Order = "contribution",
    against: str | None = None,
) -> Why:
    """Explain the label of one document.

    Args:
        classifier: a trained one.
        document: as the classifier's encoder reads it, or, for a `TunedClassifier`, as its `ask`.
        count: training documents shown one by one; the others share a line.
        by: their order, after the most alike one and twins.
        against: the class that the label is compared with; None for the runner-up.

    Raises:
        ValueError: an unknown order.
        ClassifierError: `against` is no class, or the predicted one.
    """
    if by not in get_args(Order):
        raise ValueError(f"explain: by is {by!r}; wanted one of {', '.join(get_args(Order))}.")
    asked = document if isinstance(document, Question) else classifier.question(document)
    reading = asked.reading
    rows = classifier.standardised(reading.vectors)
    prediction = classifier.predict(rows)
    other = _against(classifier, prediction, against)
    first, second = (classifier.classes.index(name) for name in (prediction.label, other))
    target = _lead_of(first, second)
    label, replay = torch.tensor([first]), classifier.replay()
    ledger = path_kernel(replay, asked.inputs, label, target=target)
    pieces = classifier.training_rows(ledger.ids)
    alike = torch.cat([alikeness(replay, asked.inputs, label, o, target=target) for o in pieces])
    effects = adjoint(replay, asked.inputs, label, target=target) if by == "removal" else None
    without = None if effects is None else (effects.prediction - effects.values[0])
    taught = _taught(classifier, ledger, alike, without)
    order = _order(ledger, alike, without, by)[:count]
    head = classifier.head().double()
    weight = (head.weight[first] - head.weight[second]).detach()
    bias = float((head.bias[first] - head.bias[second]).detach())
    shares = (rows.double() @ weight / len(rows)).tolist()
    spans = [(int(start), int(end)) for start, end in reading.passage_chars]
    return Why(
        prediction,
        other,
        math.fsum([bias, *shares]),
        bias,
        tuple(PassageShare(*pair) for pair in zip(shares, spans, strict=True)),
        tuple(taught[place] for place in order),
        _lines(ledger, taught, order),
    )


def _lead_of(first: int, second: int) -> Target:
    def lead(outputs: Tensor, _: Tensor) -> Tensor:
        return outputs[:, first] - outputs[:, second]

    return lead


def _against(classifier: Classifier, prediction: Prediction, named: str | None) -> str:
    if named is None:
        return prediction.runner_up
    if named not in classifier.classes or named == prediction.label:
        others = ", ".join(name for name in classifier.classes if name != prediction.label)
        raise ClassifierError(
            f"against: got {named!r}, and the document was labelled {prediction.label!r}; "
            f"wanted one of {others}."
        )
    return named


def _taught(
    classifier: Classifier, ledger: Ledger, alike: Tensor, without: Tensor | None
) -> list[Taught]:
    labels = classifier.labels[ledger.ids].tolist()
    leads = [None] * len(labels) if without is None else without.tolist()
    return [
        Taught(classifier.documents[number], classifier.classes[label], amount, near, lead)
        for number, label, amount, near, lead in zip(
            ledger.ids.tolist(),
            labels,
            ledger.contributions[0].tolist(),
            alike.tolist(),
            leads,
            strict=True,
        )
    ]


def _order(ledger: Ledger, alike: Tensor, without: Tensor | None, by: Order) -> list[int]:
    """The most alike first, then twins; within each group what is asked for, the largest first."""
    score = ledger.contributions[0].abs()
    if by == "alike":
        score = alike
    if without is not None:
        score = (ledger.prediction[0] - without).abs()
    order = score.argsort(descending=True, stable=True)
    nearest = alike[order] >= alike.max() - EQUAL
    twins = (alike[order] >= TWIN) & ~nearest
    groups = (nearest, twins, ~nearest & ~twins)
    return [place for group in groups for place in order[group].tolist()]


def _lines(ledger: Ledger, taught: list[Taught], order: list[int]) -> tuple[Line, ...]:
    shown = set(order)
    rest = [one.amount for place, one in enumerate(taught) if place not in shown]
    lines = [
        Line("before training", float(ledger.start[0])),
        *(Line(taught[place].document, taught[place].amount) for place in order),
        *([Line(f"{len(rest)} other documents", math.fsum(rest))] if rest else []),
        Line("weight decay", float(ledger.decay[0])),
        Line("rounding of the recording", float(ledger.rounding[0])),
    ]
    missing = [float(ledger.prediction[0]), *(-line.amount for line in lines)]
    return (*lines, Line("residual", math.fsum(missing)))
