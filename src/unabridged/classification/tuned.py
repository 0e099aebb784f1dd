"""A head trained together with the last layers of its encoder.

Beside what `Classifier` keeps, its folder holds

    states/00000.safetensors   what goes into the last layers, one file a training document
    run/                       the recording of layers and head together

The encoder's own folder is not changed; the last layers are in the recording.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from unabridged.attribution import Replay, cross_entropy_of
from unabridged.attribution.batches import Inputs
from unabridged.classification.classifier import Classifier, Fingerprinted
from unabridged.classification.errors import ClassifierError
from unabridged.classification.question import Question
from unabridged.encoder import LongEncoder
from unabridged.encoder.token_scores import TokenScores
from unabridged.encoder.trainable import Bottom, States, Top, split_encoder

__all__ = ["LayersAndHead", "StateData", "TunedClassifier", "keep_states"]


class LayersAndHead(nn.Module):
    """The last layers of an encoder, the mean over a document's passages, and a linear head."""

    centre: Tensor
    scale: Tensor

    def __init__(self, top: Top, classes: int, centre: Tensor, scale: float) -> None:
        super().__init__()
        self.top, self.head = top, nn.Linear(len(centre), classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.register_buffer("centre", centre.clone())
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float64))

    def forward(self, states: Tensor, rows: Tensor) -> Tensor:
        """(N, C) outputs of N documents, from (N, P, R, D) states and (N, P) rows."""
        vectors = self.top(states, rows)
        passages = (rows > 0).sum(1, keepdim=True).to(vectors.dtype)
        mean = vectors.sum(1) / passages
        outputs: Tensor = self.head((mean - self.centre) * self.scale.to(vectors.dtype))
        return outputs


@dataclass(frozen=True)
class StateData:
    """Training documents on disk; the id of a document is the number of its file."""

    folder: Path
    labels: Tensor

    def __call__(self, ids: Tensor) -> tuple[Inputs, Tensor]:
        """States and labels of the documents with these ids, padded to the longest of them."""
        found = [load_file(self.folder / f"{number:05d}.safetensors") for number in ids.tolist()]
        return padded([States(one["states"], one["rows"]) for one in found]), self.labels[ids]


def padded(documents: Sequence[States]) -> dict[str, Tensor]:
    """Documents as one batch: (N, P, R, D) float32 states and (N, P) rows."""
    states, rows = [one.states.float() for one in documents], [one.rows for one in documents]
    pad = nn.utils.rnn.pad_sequence
    return {"states": pad(states, batch_first=True), "rows": pad(rows, batch_first=True)}


def keep_states(documents: Iterable[States], folder: Path) -> list[int]:
    """Write the states of documents, one file each; gives their numbers of passages."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    passages = []
    for number, one in enumerate(documents):
        tensors = {"states": one.states, "rows": one.rows}
        save_file(tensors, folder / f"{number:05d}.safetensors")
        passages.append(len(one.rows))
    return passages


@dataclass(frozen=True)
class TunedClassifier(Classifier):
    """Layers and head, opened; `with_encoder` must be called before it can read or explain.

    Attributes:
        layers: how many of the encoder's last layers were trained.
        encoder: the encoder it was trained from.
    """

    layers: int = 1
    encoder: LongEncoder | None = None

    def with_encoder(self, encoder: Fingerprinted) -> TunedClassifier:
        """The classifier with the encoder that it was trained from."""
        if not isinstance(encoder, LongEncoder):
            raise ClassifierError(f"{self.folder}: wanted a LongEncoder, got {type(encoder)}.")
        self.check_encoder(encoder.fingerprint)
        return replace(self, encoder=encoder)

    def _beyond(self) -> dict[str, Any]:
        return {"layers": self.layers}

    @cached_property
    def _parts(self) -> tuple[Bottom, LayersAndHead]:
        if self.encoder is None:
            raise ClassifierError(f"{self.folder}: no encoder yet; call with_encoder first.")
        bottom, top = split_encoder(self.encoder, layers=self.layers)
        return bottom, LayersAndHead(top, len(self.classes), self.centre, self.scale)

    @cached_property
    def model(self) -> LayersAndHead:
        """Layers and head as they were at the end of training."""
        model = self._parts[1]
        self.replay().restore(model)
        return model.eval()

    @property
    def states(self) -> StateData:
        """The training data as the recorder saw it."""
        return StateData(self.folder / "states", self.labels)

    def head(self) -> nn.Linear:
        """A copy of the trained linear layer."""
        return copy.deepcopy(self.model.head)

    def replay(self) -> Replay:
        """The recorded training of layers and head."""
        blank = self._parts[1]
        return Replay(blank, self.folder / "run", loss=cross_entropy_of, data=self.states)

    def ask(self, text: str) -> Question:
        """A document read by the frozen layers and, as they were trained, the last ones."""
        reading, states = next(self._parts[0].read_many([text]))
        inputs = padded([states])
        with torch.no_grad():
            vectors = self.model.top(**inputs)[0]
        return Question(replace(reading, vectors=vectors.numpy()), inputs)

    def training_rows(self, ids: Tensor) -> Iterator[Inputs]:
        """The training documents, one after the other, as rows of the recorded model."""
        for number in ids.tolist():
            yield self.states(torch.tensor([number]))[0]

    def token_scores(self, question: Question, direction: NDArray[np.float64]) -> list[TokenScores]:
        """⟨direction, vector⟩ of every passage over its tokens, as the trained layers see them."""
        inputs = cast("dict[str, Tensor]", question.inputs)
        with torch.no_grad():
            tokens = self.model.top.tokens(**inputs)[0].double()  # (P, R, D)
        found = []
        spans = question.reading.passage_tokens.tolist()
        lengths = inputs["rows"][0].tolist()
        for states, rows, (start, end) in zip(tokens, lengths, spans, strict=True):
            mean = states[:rows].mean(0)
            length = float(mean.norm()) if self.model.top.scaled else 1.0
            scores = (states[:rows] @ torch.from_numpy(direction) / (rows * length)).numpy()
            suffix = len(self._specials()[1])
            first = rows - suffix - (end - start)
            own = scores[first : first + end - start]
            found.append(TokenScores(own, float(scores.sum() - own.sum()), rows))
        return found

    def _specials(self) -> tuple[list[int], list[int]]:
        if self.encoder is None:
            raise ClassifierError(f"{self.folder}: no encoder yet; call with_encoder first.")
        prefix, suffix = self.encoder._pipeline.tokenizer.specials
        return list(prefix), list(suffix)
