"""Adapt an encoder under a Recorder, and ask which documents moved it to rank a hit.

The objective becomes part of the module that is recorded, so that the module's one output is, for a
document, its loss, and for a question with a passage, their score:

    documents  (1, 1, L) ─► encoder ─► objective ─► loss      (what trains)
    pairs      (N, 2, L) ─► encoder ─► pooling   ─► cosine    (what is explained)

Both go through the same parameters, so the ledger of a score is a sum over documents of adaptation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, pad

from unabridged.attribution import Ledger, Loop, Recorder, Replay, path_kernel
from unabridged.training.corpus import Batch
from unabridged.training.loop import Objective, make_optimizer, train
from unabridged.training.seeds import generator
from unabridged.training.settings import Settings, Step, Trained

__all__ = ["Adaptation", "HitLedger", "explain_hit", "output", "record_adaptation"]

Numbered = Callable[[int], tuple[int, Batch]]
"""The number of a step, counted from 0, to the id of a document and a batch of one block of it."""


class Adaptation(nn.Module):
    """An encoder and its objective as one module.

    Args:
        encoder: of transformers; gives `last_hidden_state`. Its dropout is switched off.
        objective: of the adaptation; called with the encoder.
    """

    def __init__(self, encoder: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.encoder = encoder
        self._objective = objective
        for module in self.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0

    def forward(self, ids: Tensor, real: Tensor, seed: Tensor) -> Tensor:
        """(N,) losses of (N, 1, L) documents, or scores of (N, 2, L) pairs.

        Args:
            ids: token ids, special ones included.
            real: bool, where a token is.
            seed: (N,) int64, of what the objective draws; pairs draw nothing.
        """
        if ids.shape[1] == 2:
            return self._scores(ids, real)
        losses = [
            self._objective(self.encoder, Batch.of([row[0][there[0]]]), generator(int(number)))
            for row, there, number in zip(ids, real, seed, strict=True)
        ]
        precision = next(self.encoder.parameters()).dtype  # the objective may answer in float32
        return torch.stack(losses).to(precision)

    @torch.no_grad()
    def score(self, question: Tensor, hit: Tensor) -> float:
        """The score of two texts, (A,) and (B,) token ids, with the weights as they are."""
        return float(self(**_pair(question, hit)))

    def _scores(self, ids: Tensor, real: Tensor) -> Tensor:
        flat, there = ids.flatten(0, 1), real.flatten(0, 1)
        states = self.encoder(input_ids=flat, attention_mask=there.long()).last_hidden_state
        weights = there.to(states.dtype)[..., None]
        vectors = (states * weights).sum(1) / weights.sum(1)  # (2N, D)
        return cosine_similarity(vectors[::2], vectors[1::2], dim=-1)


def record_adaptation(
    encoder: nn.Module,
    objective: Objective,
    documents: Numbered,
    *,
    folder: Path,
    settings: Settings,
    every: int = 5,
    on_step: Callable[[Step], None] | None = None,
) -> tuple[Adaptation, Trained]:
    """Adapt an encoder in place by `loop.train`, one document a step, and record every step.

    Args:
        encoder: of transformers; what requires no gradient stays as it is.
        objective: `Distillation` or another loss of a batch.
        documents: one block a step.
        folder: of the training (`loop`) and the recording (`run`).
        settings: of the training, in float32.
        every: steps between checkpoints of the recording.
        on_step: told of every step.

    Raises:
        ValueError: several batches a step, or another precision: neither is recorded.
    """
    if settings.accumulate != 1 or settings.precision != "float32":
        raise ValueError(
            f"record_adaptation: accumulate is {settings.accumulate} and precision "
            f"{settings.precision}; wanted 1 and float32, which a replay can follow."
        )
    model = Adaptation(encoder, objective)
    settings = replace(settings, dropout="on")  # a recorder watches training mode; dropout is 0
    optimizer = make_optimizer(model, settings)
    loop = Loop(clip_norm=settings.clip_norm)
    numbered = _Remembering(documents)
    with Recorder(model, optimizer, folder / "run", loop=loop, every=every) as recorder:

        def recorded(step: Step) -> None:
            (given,) = step.batches
            recorder.step(torch.tensor([numbered.last]), given, torch.zeros(1))
            if on_step is not None:
                on_step(step)

        trained = train(
            model,
            lambda module, batch, _: module(**batch).mean(),
            numbered,
            folder=folder / "loop",
            settings=settings,
            optimizer=optimizer,
            on_step=recorded,
        )
    return model, trained


def _pair(question: Tensor, hit: Tensor) -> dict[str, Tensor]:
    """Two texts as one row of the module."""
    longest = max(len(question), len(hit))
    rows = [pad(row.long(), (0, longest - len(row))) for row in (question, hit)]
    lengths = torch.tensor([[len(question)], [len(hit)]])
    return {
        "ids": torch.stack(rows)[None],
        "real": (torch.arange(longest) < lengths)[None],
        "seed": torch.zeros(1, dtype=torch.int64),
    }


class _Remembering:
    """Batches as the module takes them; remembers whose the last one was."""

    def __init__(self, documents: Numbered) -> None:
        self._documents, self.last = documents, -1

    def __call__(self, number: int) -> dict[str, Tensor]:
        self.last, batch = self._documents(number)
        return {
            "ids": batch.ids[:, None],
            "real": batch.real[:, None],
            "seed": torch.full((len(batch),), number),
        }


@dataclass(frozen=True)
class HitLedger:
    """Why adaptation gives a question and a hit their score.

    Attributes:
        ledger: start (the score before adaptation), contributions of documents, decay, rounding,
            residual; one row.
        names: of documents, by id.
    """

    ledger: Ledger
    names: Mapping[int, str]

    @property
    def score(self) -> float:
        """The cosine after adaptation."""
        return float(self.ledger.prediction[0])

    @property
    def before(self) -> float:
        """The cosine before adaptation."""
        return float(self.ledger.start[0])

    def table(self, *, count: int = 10) -> str:
        """The documents that moved the score most, and all lines that sum to it."""
        return self.ledger.table(0, count=count, names=self.names)

    def as_json(self, *, count: int = 10) -> dict[str, Any]:
        """The same as plain values."""
        entries = self.ledger.entries(0, count=count, names=self.names)
        return {
            "score": self.score,
            "before": self.before,
            "entries": [{"document": e.label, "id": e.id, "amount": e.amount} for e in entries],
            "residual": entries[-1].amount,
        }


def explain_hit(
    adaptation: Adaptation,
    folder: Path,
    question: Tensor,
    hit: Tensor,
    *,
    names: Sequence[str] | Mapping[int, str],
    tolerance: float = 1e-6,
) -> HitLedger:
    """Share the score of a question and a passage out among the documents of adaptation.

    The score is the cosine of the means of their token states.

    Args:
        adaptation: what was recorded.
        folder: as given to `record_adaptation`.
        question: (A,) token ids, special ones included.
        hit: (B,) token ids of the passage, special ones included.
        names: of the documents, by id.
        tolerance: of the residual, as a share of the change.
    """
    pair = _pair(question, hit)
    replay = Replay(adaptation, folder / "run", loss=output)
    ledger = path_kernel(replay, pair, torch.zeros(1), target=output, tolerance=tolerance)
    return HitLedger(ledger, names if isinstance(names, Mapping) else dict(enumerate(names)))


def output(outputs: Tensor, _: Tensor) -> Tensor:
    """Losses and scores are what the module gives."""
    return outputs
