"""A collection made anew beside the old one, which serves until the new one is whole."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from unabridged._errors import CollectionError
from unabridged.cli import opening, places

__all__ = ["begin", "finish"]

# Names of the collection's own, repeated here because its room is slow to import.
SETTINGS_NAME, MODELS = "settings.json", "model-*"


def begin(place: Path, source: Path, *options: str | None) -> Path:
    """The folder in which the new collection grows; one that was begun the same way goes on.

    Args:
        place: of the old collection, whose settings and model are taken along.
        source: the folder that is read anew.
        options: of the command; with others, what was begun is begun again.

    Raises:
        CollectionError: the old collection holds documents from elsewhere, which would be lost.
    """
    _check_sources(place, source)
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


def _check_sources(place: Path, source: Path) -> None:
    if not (place / places.MANIFEST).exists():
        return
    from unabridged.collection import Collection

    with Collection.open(place, if_missing="refuse") as old:
        known = old.list()
    root = source.resolve()
    # What a moved folder brings along is named after its old place, and is in the new one.
    others = {s.source for s in known if s.source != str(root) and not (root / s.id).exists()}
    if others:
        raise CollectionError(
            f"index --anew: {place} also holds documents from {min(others) or 'elsewhere'}, which "
            "would be lost; index into a new collection with --into, or remove them first."
        )


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
