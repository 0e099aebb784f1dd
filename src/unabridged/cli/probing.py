"""A probe from the command line: who takes part, the rounds under a bar, and what is kept."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

from rich.progress import BarColumn, Progress, TextColumn

from unabridged.cli import opening, places
from unabridged.cli.console import counted, notes
from unabridged.collection import Collection, Settings, reader_of
from unabridged.encoder import LongEncoder
from unabridged.probing import (
    Contestant,
    Gathered,
    Outcome,
    Round,
    Step,
    Way,
    adopt,
    contestant,
    evaluate,
    gather,
    hold,
    of_collection,
    of_folder,
    prepare,
    ways,
)

__all__ = ["AS_NOW", "Trial", "hold_trial", "keep", "prepare_trial"]

FEWEST_DOCUMENTS = 8
MOST_DOCUMENTS = 300
MOST_POSITIONS = 8192
MOST_USUAL = 510  # tokens that encoders take before they are made longer
AS_NOW = "as indexed now"


@dataclass(frozen=True, slots=True)
class Trial:
    """Everything that a probe needs.

    Attributes:
        place: folder of the collection, there already or not.
        model: that the readers start from; None for the packaged default.
        positions: of the longer tables.
        gathered: the documents.
        ways: to read that are offered, each a contestant by its name.
        contestants: these, and the reader of the collection where it is another one.
        incumbent: name of the contestant that stays unless another is clearly better.
        seed: of everything that is drawn.
        refusal: why there is nothing to compare; empty where there is.
    """

    place: Path
    model: str | None
    positions: int
    gathered: Gathered
    ways: tuple[Way, ...]
    contestants: tuple[Contestant, ...]
    incumbent: str
    seed: int
    refusal: str


def prepare_trial(
    folder: Path, into: str | None, model: str | None, *, seed: int, longest: int
) -> Trial:
    """Look at the documents, and see who takes part."""
    is_collection = (folder / places.MANIFEST).exists()
    place = folder if is_collection else places.named(into) if into else places.beside(folder)
    model = _absolute(model) or _base(place)
    encoder = LongEncoder(model, reader="full")
    found = (
        of_collection(Collection.open(folder, if_missing="refuse"), seed=seed)
        if is_collection
        else of_folder(folder, seed=seed)
    )
    room = min(encoder.max_length, MOST_USUAL)
    gathered = gather(
        found, encoder.count_tokens, longer_than=room, at_most=longest, most=MOST_DOCUMENTS
    )
    positions = min(MOST_POSITIONS, 2 ** math.ceil(math.log2(gathered.longest + 8)))
    offered = tuple(ways(encoder, positions=positions))
    people = [contestant(way, model, positions) for way in offered]
    incumbent = _incumbent(place, offered, encoder.checkpoint.digest)
    if incumbent == AS_NOW:
        people.append(Contestant(AS_NOW, partial(_opened_as_now, place)))
    refusal = _refusal(gathered, room)
    return Trial(
        place, model, positions, gathered, offered, tuple(people), incumbent, seed, refusal
    )


def hold_trial(
    trial: Trial, minutes: float, documents: int | None, *, quiet: bool
) -> tuple[Outcome | None, bool]:
    """Read and ask; on Ctrl-C take what is there.

    Returns:
        What was found, None where nobody has read anything yet, and whether the trial came to its
        end.
    """
    gathered = trial.gathered
    task = prepare(gathered.sources, seed=trial.seed).part(0, documents or len(gathered.sources))
    seconds = float("inf") if documents else 60 * minutes
    last: Round | None = None
    is_whole = True
    try:
        with _bar(quiet=quiet) as progress:
            people, tokens = trial.contestants, gathered.tokens
            for each in hold(people, task, tokens, seconds=seconds, progress=progress):
                last = each
    except KeyboardInterrupt:
        is_whole = False
    if last is None:
        return None, False
    return evaluate(last, trial.contestants, trial.incumbent, seed=trial.seed), is_whole


def keep(trial: Trial, outcome: Outcome) -> Settings:
    """Write the winner to the settings of the collection, which is not touched otherwise."""
    reason = outcome.verdict.reason
    by_name = {way.name: way for way in trial.ways}
    if outcome.verdict.winner in by_name:
        way = by_name[outcome.verdict.winner]
        return adopt(way, trial.model, trial.positions, trial.place, reason=reason)
    made_with = Collection.open(trial.place, if_missing="refuse").info().fingerprint
    known = Settings.load(trial.place)
    fits = known is not None and known.fits(made_with)
    model = known.model if known and fits else opening.model_of(trial.place)
    digest = made_with["model"]
    settings = Settings(reader_of(made_with), model, trial.model, digest, reason)
    settings.save(trial.place)
    return settings


def _absolute(model: str | None) -> str | None:
    """A folder as it is called from anywhere; it is written down for later."""
    place = Path(model).expanduser() if model else None
    return str(place.resolve()) if place and place.is_dir() else model


def _base(place: Path) -> str | None:
    """The model that a longer one was made from, or the collection's own."""
    settings = Settings.load(place)
    return settings.base if settings else opening.model_of(place)


def _incumbent(place: Path, offered: tuple[Way, ...], digest: str) -> str:
    """The way that the collection was read, else the default one."""
    default = next(way.name for way in offered if way.name == "chunks")
    if not (place / places.MANIFEST).exists():
        return default
    made_with = Collection.open(place, if_missing="refuse").info().fingerprint
    same = [way.name for way in offered if not way.table and way.settings == reader_of(made_with)]
    return same[0] if same and made_with["model"] == digest else AS_NOW


@contextmanager
def _opened_as_now(place: Path) -> Iterator[LongEncoder]:
    made_with = Collection.open(place, if_missing="refuse").info().fingerprint
    yield opening.load_encoder(opening.model_of(place), made_with)


def _refusal(gathered: Gathered, room: int) -> str:
    long = len(gathered.sources)
    if not gathered.looked_at:
        return "There is no document with text here, so there is nothing to compare."
    if not long:
        return (
            f"None of the {gathered.looked_at:,} documents has more than the {room:,} tokens that "
            f"are taken at once anyway (the longest has {gathered.longest:,}), so every reader "
            "reads them alike: there is nothing to compare."
        )
    if long < FEWEST_DOCUMENTS:
        return (
            f"Only {counted(gathered.sources, 'document')} of {gathered.looked_at:,} have more "
            f"than the {room:,} tokens that are taken at once anyway; a comparison wants at "
            f"least {FEWEST_DOCUMENTS}."
        )
    return ""


@contextmanager
def _bar(*, quiet: bool) -> Iterator[Callable[[Step], None] | None]:
    """A callback that draws, or None where nobody would see it."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[counts]}"))
    with Progress(*columns, console=notes(), transient=True) as progress:
        task = progress.add_task("Reading", total=None, counts="")

        def draw(now: Step) -> None:
            left = now.seconds_left
            counts = f"{now.documents:,} of {now.documents_total:,} documents"
            if left is not None:
                counts += f", at most {timedelta(seconds=round(left))} left"
            progress.update(
                task,
                description=f"Reading: {now.contestant}",
                completed=now.seconds,
                total=None if left is None else now.seconds + left,
                counts=counts,
            )

        yield draw
