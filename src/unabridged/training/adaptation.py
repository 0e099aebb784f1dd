"""Teach an encoder to read whole documents, on somebody's own documents, and save it as stock.

    MODEL ─ extend ─► longer ─┐
    FOLDER ─ tokens ──────────┴─ masked-language | distillation ─ train ─► OUT

All that is needed to continue stands in a hidden folder beside OUT until OUT is there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForMaskedLM, AutoTokenizer, PreTrainedModel

from unabridged import _late_registration
from unabridged._errors import DocumentError, ModelError, UnabridgedError
from unabridged.encoder.checkpoint import Checkpoint, find_checkpoint
from unabridged.encoder.extension import extend
from unabridged.encoder.loading import load_weights
from unabridged.encoder.pooling import load_head
from unabridged.encoder.precision import probe_precision
from unabridged.encoder.registry import set_attention
from unabridged.encoder.residual import restore_residual
from unabridged.encoder.surgery import GATE, dissect
from unabridged.encoder.tokens import load_tokenizer
from unabridged.training.corpus import Batch, Corpus
from unabridged.training.exporting import export
from unabridged.training.loop import Objective, train
from unabridged.training.masking import MaskedLanguageModel, Masking
from unabridged.training.recipe import Adapted, Goal, Recipe
from unabridged.training.schedule import Schedule
from unabridged.training.segments import Segments, split_documents
from unabridged.training.settings import Precision, Settings, Step, Trained
from unabridged.training.teaching import distillation_of, prompted
from unabridged.training.workplace import Workplace

__all__ = ["FEWEST", "Adapted", "Recipe", "adapt"]

FEWEST = 8
"""So many long documents are needed, since some of them are only looked at."""

_HELD_OUT, _MOST_HELD_OUT = 0.1, 8
_LOOK_EVERY, _PATIENCE = 100, 4
_WITH_HEAD = ("ForMaskedLM", "ForPreTraining")
_ENDLESS = 1_000_000


def adapt(
    model: str | os.PathLike[str] | None,
    documents: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    recipe: Recipe | None = None,
    on_step: Callable[[Step], None] | None = None,
) -> Adapted:
    """Continue the training of an encoder on documents, so that it reads them whole.

    Ctrl-C saves and returns with `ended` "interrupted"; the same call continues. So it does after a
    kill, from the last checkpoint, at most a minute before. With `steps` and no `minutes` equal
    seeds give equal bits.

    Args:
        model: a folder, best one that `extend` made, or a Hub id; None for the packaged default.
        documents: a folder, or one file, of any kind that a collection reads.
        out: the folder to make; must not exist. It loads in transformers, and in
            sentence-transformers where the model did, without this package; one with residual
            attention loads there without its gates.
        recipe: how; None for the defaults.
        on_step: told of every optimiser step; it gets what a `Recorder` needs.

    Raises:
        ModelError: no such model, a family that cannot be extended, or `out` exists.
        DocumentError: too few documents that are long.
        TrainingError: an unfinished adaptation of another kind lies beside `out`.
    """
    recipe = recipe or Recipe()
    place = Workplace(out)
    source = Path(documents).expanduser()
    if not source.exists():
        raise DocumentError(f"adapt: {source} does not exist; name a folder of documents.")
    checkpoint = find_checkpoint(model)
    asked = {"model": checkpoint.digest, "documents": str(source.resolve()), **recipe.as_json()}
    place.claim(asked)
    try:
        base = _long_enough(checkpoint, place, recipe)
        prepared = _prepare(base, source, place, recipe)
    except (UnabridgedError, ValueError):
        place.leave()
        raise
    trained = _train(prepared, place, on_step)
    made = _summary(prepared, trained, place)
    if trained.ended != "interrupted":
        export(base, prepared.encoder, work=place, recipe=recipe, made=made)
        shutil.rmtree(place.folder)
    return made


@dataclass(frozen=True)
class _Prepared:
    """Everything but the training itself."""

    recipe: Recipe
    goal: Literal["masked-language", "distillation"]
    encoder: PreTrainedModel
    objective: Objective
    batches: Segments
    held_out: tuple[Batch, ...]
    positions: int
    failed: tuple[tuple[str, str], ...]


def _long_enough(checkpoint: Checkpoint, place: Workplace, recipe: Recipe) -> Checkpoint:
    """The checkpoint, or one extended by positions or gates where it lacks what is asked for."""
    architecture = dissect(load_weights(checkpoint))
    wanted = max(recipe.max_length or 0, architecture.positions)
    gates = recipe.residual_attention and not architecture.gates
    if wanted == architecture.positions and not gates:
        return checkpoint
    if not place.extended.exists():
        extend(checkpoint.folder, place.extended, max_length=wanted, residual_attention=gates)
    return find_checkpoint(place.extended)


def _prepare(base: Checkpoint, source: Path, place: Workplace, recipe: Recipe) -> _Prepared:
    goal = _goal(base, recipe.goal)
    encoder = _load(base, goal)
    head = load_head(base.folder)
    tokenizer = load_tokenizer(base.transformer, lowercase=head.lowercase)
    corpus, failed = place.documents(source, tokenizer)
    if goal == "distillation":
        corpus = prompted(corpus, head, tokenizer)
    positions = dissect(encoder if goal == "distillation" else encoder.base_model).positions
    longest = min(recipe.max_length or positions, positions) - sum(map(len, corpus.specials))
    long = _long_documents(corpus, recipe.window, longest, source)
    chosen, seen = split_documents(long, share=_HELD_OUT, most=_MOST_HELD_OUT, seed=recipe.seed)
    # Guessing words trains each place by itself, so far places want stretches that reach them.
    shortest = longest // 2 if goal == "masked-language" else 2 * recipe.window
    batches = Segments(corpus, chosen, shortest, longest, recipe.seed)
    if goal == "distillation":
        with torch.autocast("cpu", torch.bfloat16, enabled=_precision(recipe) == "bfloat16"):
            objective: Objective = distillation_of(
                _teacher(recipe) or encoder, head, corpus, documents=chosen, window=recipe.window
            )
    else:
        words = AutoTokenizer.from_pretrained(str(base.transformer), local_files_only=True)
        objective = MaskedLanguageModel(Masking.of(words))
    _unfreeze(encoder, recipe)
    if recipe.attention is not None:
        _late_registration.watch()
        set_attention(encoder, recipe.attention)
    held_out = tuple(batches.at(document, 0, longest) for document in seen)
    return _Prepared(recipe, goal, encoder, objective, batches, held_out, positions, failed)


def _teacher(recipe: Recipe) -> PreTrainedModel | None:
    return None if recipe.teacher is None else load_weights(find_checkpoint(recipe.teacher))


def _goal(base: Checkpoint, wanted: Goal) -> Literal["masked-language", "distillation"]:
    if wanted != "auto":
        return wanted
    config = AutoConfig.from_pretrained(str(base.transformer), local_files_only=True)
    has_head = any(name.endswith(_WITH_HEAD) for name in config.architectures or ())
    plain = not (base.folder / "modules.json").exists()
    return "masked-language" if has_head and plain else "distillation"


def _load(base: Checkpoint, goal: Goal) -> PreTrainedModel:
    if goal == "distillation":
        return load_weights(base)
    load_weights(base)  # refuses what is damaged or not whole
    model, report = AutoModelForMaskedLM.from_pretrained(
        str(base.transformer),
        local_files_only=True,
        dtype=torch.float32,
        output_loading_info=True,
    )
    if report["missing_keys"]:
        raise ModelError(
            f"adapt: {base.name} has no head for masked language modelling (it lacks "
            f"{sorted(report['missing_keys'])[0]}); take the goal 'distillation', which needs none."
        )
    restore_residual(model, base.transformer)
    return cast("PreTrainedModel", model)


def _long_documents(corpus: Corpus, window: int, longest: int, source: Path) -> list[int]:
    """Numbers of documents longer than two windows, if there are enough."""
    if longest <= 2 * window:
        raise ModelError(
            f"adapt: the model takes {longest} tokens and reads windows of {window}; wanted more "
            f"than two windows, so extend it: --max-length 4096."
        )
    lengths = corpus.lengths()
    long = [int(n) for n in (lengths > 2 * window).nonzero()[0]]
    if len(long) < FEWEST:
        raise DocumentError(
            f"adapt: {len(long)} of {len(corpus)} documents in {source} have more than "
            f"{2 * window} tokens (the longest has {max(lengths)}); wanted at least {FEWEST} that "
            "long. Documents that fit the model's window need no adapting; use the model as it is."
        )
    return long


def _unfreeze(encoder: PreTrainedModel, recipe: Recipe) -> None:
    """Say what is trained; a pooler, which nothing here uses, never is."""
    norms = {
        id(p) for m in encoder.modules() if isinstance(m, nn.LayerNorm) for p in m.parameters()
    }
    for name, parameter in encoder.named_parameters():
        small = id(parameter) in norms or "position_embeddings" in name or name.endswith(GATE)
        chosen = recipe.trains == "all" or small
        parameter.requires_grad_(chosen and "pooler" not in name)


def _precision(recipe: Recipe) -> Precision:
    if recipe.precision != "auto":
        return recipe.precision
    return probe_precision().name


def _train(
    prepared: _Prepared, place: Workplace, on_step: Callable[[Step], None] | None
) -> Trained:
    recipe = prepared.recipe
    settings = Settings(
        steps=recipe.steps or _ENDLESS,
        seconds=None if recipe.minutes is None else 60 * recipe.minutes,
        schedule=Schedule(peak=recipe.rate),
        accumulate=recipe.documents,
        precision=_precision(recipe),
        dropout="off",
        look_every=_LOOK_EVERY,
        patience=_PATIENCE,
        seed=recipe.seed,
    )
    return train(
        prepared.encoder,
        prepared.objective,
        prepared.batches,
        folder=place.run,
        settings=settings,
        held_out=prepared.held_out,
        on_step=on_step,
    )


def _summary(prepared: _Prepared, trained: Trained, place: Workplace) -> Adapted:
    before, best = trained.held_out_before, trained.held_out
    return Adapted(
        folder=place.out,
        goal=prepared.goal,
        ended=trained.ended,
        documents=len(prepared.batches.documents),
        held_out=len(prepared.held_out),
        failed=prepared.failed,
        steps=trained.steps,
        seconds=trained.seconds,
        loss_before=float("nan") if before is None else before,
        loss=float("nan") if best is None else best,
        positions=prepared.positions,
    )
