"""A collection made anew beside the old one, which serves until the new one is whole."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from unabridged.cli import opening, places

__all__ = ["begin", "finish"]

# Names of the collection's own, repeated here because its room is slow to import.
SETTINGS_NAME, MODELS = "settings.json", "model-*"


def begin(place: Path, *options: str | None) -> Path:
    """The folder in which the new collection grows; one that was begun the same way goes on.

    Args:
        place: of the old collection, whose settings and model are taken along.
        options: of the command; with others, what was begun is begun again.
    """
    fresh, old, note = _fresh(place), _old(place), _note(place)
    if old.exists() and not place.exists():  # the exchange itself was interrupted
        old.rename(place)
    settings = place / SETTINGS_NAME
    chosen = settings.read_text(encoding="utf-8") if settings.exists() else ""
    wish = json.dumps([*options, chosen])
    if fresh.exists() and not (note.exists() and note.read_text(encoding="utf-8") == wish):
        shutil.rmtree(fresh)
    _take_along(place, fresh)
    note.write_text(wish, encoding="utf-8")
    return fresh


def finish(place: Path) -> None:
    """Put the new collection where the old one was, and delete that one."""
    fresh, old = _fresh(place), _old(place)
    shutil.rmtree(old, ignore_errors=True)
    if place.exists():
        place.rename(old)
    fresh.rename(place)
    _note(place).unlink(missing_ok=True)
    shutil.rmtree(old, ignore_errors=True)
    places.remember(place)


def _take_along(place: Path, fresh: Path) -> None:
    fresh.mkdir(parents=True, exist_ok=True)
    named = ""
    for file in (place / SETTINGS_NAME, place / opening.MODEL_FILE):
        if file.exists():
            named += file.read_text(encoding="utf-8")
            if not (fresh / file.name).exists():  # what was begun may have its own model by now
                shutil.copyfile(file, fresh / file.name)
    for model in place.glob(MODELS):
        if model.name in named:
            shutil.copytree(model, fresh / model.name, dirs_exist_ok=True)


def _fresh(place: Path) -> Path:
    return place.with_name(f"{place.name}.anew")


def _old(place: Path) -> Path:
    return place.with_name(f"{place.name}.old")


def _note(place: Path) -> Path:
    return place.with_name(f"{place.name}.anew.json")
