"""A linear head over whole documents, on disk with everything that explains it.

    classifier.json        classes, documents and their labels, fingerprint of the encoder
    vectors.safetensors    (n, D) document vectors, (D,) centre and scale
    run/                   the recording of the head's training

A document's vector is the mean of its passages' vectors, so each output is a mean over passages:
what a passage adds to a decision is exact, not an estimate. P passages, D width, n documents.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from unabridged._reading import Reading
from unabridged.attribution import Replay, TensorData, cross_entropy_of
from unabridged.attribution.batches import Inputs
from unabridged.classification.errors import ClassifierError
from unabridged.classification.question import Question

__all__ = ["Classifier", "Prediction"]

SCHEMA = 1
DESCRIPTION = "classifier.json"


@dataclass(frozen=True)
class Prediction:
    """What a classifier says of one document.

    Attributes:
        label: the class with the largest output.
        runner_up: the class with the second largest.
        probabilities: by class, in the order of the classes.
    """

    label: str
    runner_up: str
    probabilities: dict[str, float]


class Fingerprinted(Protocol):
    """What is asked of an encoder here."""

    @property
    def fingerprint(self) -> dict[str, str]:
        """Everything that changes a vector."""
        ...


@dataclass(frozen=True)
class Classifier:
    """A trained head, opened.

    Attributes:
        folder: where it lives.
        classes: the labels, ascending.
        documents: ids of the training documents; the index is the training id.
        labels: (n,) class of every training document.
        features: (n, D) standardised vectors of the training documents.
        centre: (D,) what was subtracted from a document's vector.
        scale: what it was multiplied by.
        fingerprint: of the encoder.
    """

    folder: Path
    classes: tuple[str, ...]
    documents: tuple[str, ...]
    labels: Tensor
    features: Tensor
    centre: Tensor
    scale: float
    fingerprint: dict[str, str]

    @property
    def data(self) -> TensorData:
        """The training data as the recorder saw it."""
        return TensorData(self.features, self.labels)

    def head(self) -> nn.Linear:
        """The trained linear layer."""
        head = nn.Linear(self.features.shape[1], len(self.classes))
        self.replay().restore(head)
        return head

    def replay(self) -> Replay:
        """The recorded training of the head.

        Raises:
            RecordingError: a damaged file, named.
        """
        blank = nn.Linear(self.features.shape[1], len(self.classes))
        return Replay(blank, self.folder / "run", loss=cross_entropy_of, data=self.data)

    def standardised(self, vectors: NDArray[np.float32] | Tensor) -> Tensor:
        """(…, D) vectors as the head takes them."""
        return (torch.as_tensor(vectors, dtype=torch.float32) - self.centre) * self.scale

    def predict(self, vectors: Tensor) -> Prediction:
        """Classify one document by its standardised passage vectors (P, D)."""
        with torch.no_grad():
            outputs = self.head()(vectors.mean(0))
        best = outputs.argsort(descending=True, stable=True).tolist()
        shares = outputs.softmax(0).tolist()
        both = dict(zip(self.classes, shares, strict=True))
        return Prediction(self.classes[best[0]], self.classes[best[1]], both)

    def question(self, reading: Reading) -> Question:
        """A document as this classifier takes it."""
        whole = self.standardised(reading.vectors).double().mean(0)
        return Question(reading, whole[None])

    def training_rows(self, ids: Tensor) -> Iterator[Inputs]:
        """The training documents as rows of the recorded model, in pieces."""
        yield self.features[ids]

    def with_encoder(self, encoder: Fingerprinted) -> Classifier:
        """The classifier, once its encoder was checked."""
        self.check_encoder(encoder.fingerprint)
        return self

    def check_encoder(self, fingerprint: Mapping[str, str]) -> None:
        """Raise unless the encoder is the one that the classifier was trained with."""
        keys = sorted({*fingerprint, *self.fingerprint})
        differ = [key for key in keys if fingerprint.get(key) != self.fingerprint.get(key)]
        if differ:
            raise ClassifierError(
                f"{self.folder} was trained with another encoder ({', '.join(differ)} differ); "
                "give the same model, or train again."
            )

    def save(self) -> None:
        """Write everything but the recording, which is there already."""
        tensors = {"features": self.features, "labels": self.labels, "centre": self.centre}
        save_file(tensors, self.folder / "vectors.safetensors")
        description = {
            "schema": SCHEMA,
            "classes": self.classes,
            "documents": self.documents,
            "scale": self.scale,
            "fingerprint": self.fingerprint,
            **self._beyond(),
        }
        text = json.dumps(description, ensure_ascii=False, indent=1)
        (self.folder / DESCRIPTION).write_text(text + "\n", encoding="utf-8")

    def _beyond(self) -> dict[str, Any]:
        """What a kind of classifier keeps in its description beyond the fields of all."""
        return {}

    @staticmethod
    def standardisation(vectors: Tensor) -> tuple[Tensor, Tensor, float]:
        """Standardised (n, D) vectors, and the centre (D,) and scale that made them.

        They have D coordinates of size about one, whatever the encoder's scale.
        """
        centre = vectors.mean(0)
        spread = (vectors - centre).square().sum(1).mean().sqrt().clamp(min=1e-12)
        scale = float(vectors.shape[1] ** 0.5 / spread)
        return (vectors - centre) * scale, centre, scale

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open a classifier of this kind; `open_classifier` opens any kind.

        Raises:
            ClassifierError: none there, one of another schema or of another kind.
        """
        if not (folder / DESCRIPTION).exists():
            raise ClassifierError(
                f"no classifier in {folder}; train one: unabridged classify train FOLDER "
                "--labels labels.csv"
            )
        raw = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        if raw["schema"] != SCHEMA:
            raise ClassifierError(
                f"{folder} has schema {raw['schema']} and this version reads {SCHEMA}; train again."
            )
        tensors = load_file(folder / "vectors.safetensors")
        known = ("schema", "classes", "documents", "scale", "fingerprint")
        beyond = {key: value for key, value in raw.items() if key not in known}
        return cls(
            folder,
            tuple(raw["classes"]),
            tuple(raw["documents"]),
            tensors["labels"],
            tensors["features"],
            tensors["centre"],
            float(raw["scale"]),
            raw["fingerprint"],
            **beyond,
        )
