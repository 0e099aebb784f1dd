"""Bring a collection and its encoder together: the one place where the command line does so.

Everything heavy is imported in here, when it is called, so that `--help` answers at once.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from unabridged.cli import places

if TYPE_CHECKING:
    from unabridged.collection import Collection
    from unabridged.encoder import LongEncoder

__all__ = ["collection", "collection_to_write", "collection_with_encoder", "load_encoder"]

MODEL_FILE = "model.json"
"""Beside collection.json: which model to load when no --model says so."""


def load_encoder(model: str | None) -> LongEncoder:
    """The encoder of a folder, of a Hub id, or the packaged default."""
    from unabridged.encoder import LongEncoder

    return LongEncoder(model)


def collection(place: str | None) -> Collection:
    """An existing collection without its encoder: to list, show, remove, search by words."""
    from unabridged.collection import Collection

    return Collection.open(places.existing(place), if_missing="refuse")


def collection_with_encoder(place: str | None, model: str | None) -> Collection:
    """An existing collection with the encoder that made it."""
    from unabridged.collection import Collection

    folder = places.existing(place)
    encoder = load_encoder(model or _recorded_model(folder))
    return Collection.open(folder, encoder, if_missing="refuse")


def collection_to_write(folder: Path, model: str | None) -> Collection:
    """A collection to sync into, made if it is not there, and the obvious one from now on."""
    from unabridged.collection import Collection

    model = model or _recorded_model(folder)
    opened = Collection.open(folder, load_encoder(model))
    _record_model(folder, model)
    places.remember(folder)
    return opened


def _recorded_model(folder: Path) -> str | None:
    try:
        model = json.loads((folder / MODEL_FILE).read_text(encoding="utf-8"))["model"]
    except FileNotFoundError:
        return None
    return None if model is None else str(model)


def _record_model(folder: Path, model: str | None) -> None:
    if model is not None and Path(model).expanduser().is_dir():
        model = str(Path(model).expanduser().resolve())
    (folder / MODEL_FILE).write_text(json.dumps({"model": model}) + "\n", encoding="utf-8")
