"""Adapt a model so that its rankings can be explained, and explain the score of a hit.

OUT                the new model, as `adapt` makes it
OUT.recording      adaptation.json (what was asked, names of documents), run/ (every step),
and the documents as tokens, so that every step can be taken again
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unabridged._errors import DocumentError, ModelError
from unabridged._reading import Span
from unabridged.attribution import Replay
from unabridged.collection.documents import document_id, walk
from unabridged.encoder.checkpoint import Checkpoint, find_checkpoint
from unabridged.encoder.pooling import load_head
from unabridged.encoder.reading import Chunks
from unabridged.encoder.tokens import load_tokenizer
from unabridged.training.adaptation import _long_enough, _prepare, _Prepared, _summary
from unabridged.training.corpus import Batch
from unabridged.training.errors import TrainingError
from unabridged.training.exporting import export
from unabridged.training.recipe import Adapted, Recipe
from unabridged.training.recorded import (
    Adaptation,
    HitLedger,
    explain_hit,
    output,
    record_adaptation,
)
from unabridged.training.schedule import Schedule
from unabridged.training.segments import Segments
from unabridged.training.settings import Settings, Step
from unabridged.training.workplace import Workplace

__all__ = ["ExplainedHit", "adapt_recorded", "explain_rank", "recording_of"]

SCHEMA = 1
DESCRIPTION = "adaptation.json"
MEMORY = 1 << 30
"""Bytes of parameters, in float64, that a replay may hold between two checkpoints."""


@dataclass(frozen=True)
class ExplainedHit:
    """The passage of a document that answers a question best, and why it scores what it does.

    Attributes:
        chars: place of the passage in the text.
        hit: the ledger of its score.
    """

    chars: Span
    hit: HitLedger


def recording_of(out: str | os.PathLike[str]) -> Path:
    """Where the recording of an adapted model stands: beside it."""
    path = Path(out).expanduser().absolute()
    return path.with_name(path.name + ".recording")


def adapt_recorded(
    model: str | os.PathLike[str] | None,
    documents: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    recipe: Recipe,
    on_step: Callable[[Step], None] | None = None,
) -> Adapted:
    """`adapt` by self-distillation in float32, with every step recorded.

    It runs for a number of steps, is not resumed, and keeps the last weights, not those that did
    best on held-out documents: a ledger explains the end of a whole run.

    Args:
        model: as for `adapt`.
        documents: as for `adapt`.
        out: the folder to make; must not exist, nor must `recording_of(out)`.
        recipe: with steps and without minutes; trains="positions+norms" keeps recordings small.
        on_step: told of every optimiser step.

    Raises:
        ModelError: a model that pools other than by the mean; or as for `adapt`.
        TrainingError: a recipe that cannot be recorded, with the reason.
    """
    folder, source = recording_of(out), Path(documents).expanduser().absolute()
    recipe = _recordable(recipe)
    if Path(out).expanduser().exists() or folder.exists():
        raise ModelError(f"adapt: {out} or {folder} exists already; name a new folder.")
    if not source.exists():
        raise DocumentError(f"adapt: {source} does not exist; name a folder of documents.")
    checkpoint = find_checkpoint(model)
    folder.mkdir(parents=True)
    try:
        prepared, base, place = _prepared(checkpoint, source, folder, recipe)
        failed = {name for name, _ in prepared.failed}
        paths = [source] if source.is_file() else walk(source)
        names = [
            name for name in (document_id(path, source) for path in paths) if name not in failed
        ]
        _, trained = record_adaptation(
            prepared.encoder,
            prepared.objective,
            _drawn(prepared.batches),
            folder=folder,
            settings=Settings(
                steps=recipe.steps or 1, schedule=Schedule(peak=recipe.rate), seed=recipe.seed
            ),
            every=_every(prepared),
            on_step=on_step,
        )
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    asked = {
        "schema": SCHEMA,
        "model": None if model is None else str(checkpoint.folder),
        "digest": checkpoint.digest,
        "source": str(source),
        "recipe": recipe.as_json(),
        "names": names,
    }
    (folder / DESCRIPTION).write_text(json.dumps(asked, ensure_ascii=False), encoding="utf-8")
    made = replace(_summary(prepared, trained, place), folder=Path(out).expanduser().absolute())
    place.run.mkdir(exist_ok=True)
    shutil.copyfile(folder / "loop" / "history.svg", place.run / "history.svg")
    export(base, prepared.encoder, work=place, recipe=recipe, made=made)
    return made


def explain_rank(
    out: str | os.PathLike[str], question: str, text: str, *, tolerance: float = 1e-6
) -> ExplainedHit:
    """Which documents of adaptation moved the model to score a passage as it does.

    Args:
        out: a model that `adapt_recorded` made.
        question: as it would be searched for.
        text: of a document; its best passage is explained.
        tolerance: of the residual, as a share of the score's change.

    Raises:
        TrainingError: no recording beside the model.
        ModelError: the model that was adapted is no longer the same.
    """
    folder = recording_of(out)
    asked = _described(folder)
    recipe = Recipe(**asked["recipe"])
    checkpoint = find_checkpoint(asked["model"])
    if checkpoint.digest != asked["digest"]:
        raise ModelError(
            f"{checkpoint.folder} was changed since {out} was made from it; restore that model."
        )
    prepared, base, _ = _prepared(checkpoint, Path(asked["source"]), folder, recipe)
    adaptation = Adaptation(prepared.encoder, prepared.objective)
    Replay(adaptation, folder / "run", loss=output).restore(adaptation)
    tokenizer = load_tokenizer(base.transformer, lowercase=load_head(base.folder).lowercase)
    tokens = tokenizer(text)
    if not len(tokens):
        raise DocumentError("explain_rank: the document has no text; give one that has.")
    spans = Chunks(passage=recipe.window).spans(len(tokens))
    before, after = prepared.batches.corpus.specials

    def block(ids: list[int]) -> Tensor:
        return torch.tensor([*before, *ids, *after])

    asked_for = block(tokenizer(question).ids.tolist()[: recipe.window])
    passages = [block(tokens.ids[start:end].tolist()) for start, end in spans]
    best = max(range(len(passages)), key=lambda i: adaptation.score(asked_for, passages[i]))
    start, end = spans[best]
    chars = int(tokens.chars[start:end, 0].min()), int(tokens.chars[start:end, 1].max())
    names = dict(enumerate(asked["names"]))
    hit = explain_hit(
        adaptation, folder, asked_for, passages[best], names=names, tolerance=tolerance
    )
    return ExplainedHit(chars, hit)


def _recordable(recipe: Recipe) -> Recipe:
    if recipe.steps is None or recipe.minutes is not None:
        raise TrainingError(
            f"record: the recipe has steps {recipe.steps} and minutes {recipe.minutes}; wanted a "
            "number of steps and no minutes, so that the run can be taken again."
        )
    if recipe.goal == "masked-language" or recipe.documents != 1:
        raise TrainingError(
            f"record: the goal is {recipe.goal!r} with {recipe.documents} documents a step; wanted "
            "self-distillation, one document a step: only that is explained."
        )
    if recipe.attention is not None or recipe.residual_attention:
        raise TrainingError("record: wanted the model's own attention; leave the choice out.")
    return replace(recipe, goal="distillation", precision="float32")


def _prepared(
    checkpoint: Checkpoint, source: Path, folder: Path, recipe: Recipe
) -> tuple[_Prepared, Checkpoint, Workplace]:
    place = Workplace(folder / "again")
    place.folder.mkdir(parents=True, exist_ok=True)
    base = _long_enough(checkpoint, place, recipe)
    head = load_head(base.folder)
    if head.modes != ("mean",) or head.modules:
        raise ModelError(
            f"record: the model pools by {', '.join(head.modes)} with {len(head.modules)} layers "
            "after it; wanted the mean and none, for that is the score that is explained."
        )
    return _prepare(base, source, place, recipe), base, place


def _drawn(batches: Segments) -> Callable[[int], tuple[int, Batch]]:
    def draw(number: int) -> tuple[int, Batch]:
        document, first, length = batches.drawn(number)
        return document, batches.at(document, first, length)

    return draw


def _every(prepared: _Prepared) -> int:
    size: int = sum(p.numel() for p in prepared.encoder.parameters() if p.requires_grad)
    return max(1, min(50, MEMORY // (4 * 8 * size)))


def _described(folder: Path) -> dict[str, Any]:
    path = folder / DESCRIPTION
    if not path.exists():
        raise TrainingError(
            f"no recording in {folder}; make one with the model: unabridged adapt … --record."
        )
    described = json.loads(path.read_text(encoding="utf-8"))
    if described["schema"] != SCHEMA:
        raise TrainingError(
            f"{folder} has schema {described['schema']} and this version reads {SCHEMA}; record "
            "the adaptation again."
        )
    return dict(described)
