"""Bring a collection and its encoder together: the one place where the command line does so.

Everything heavy is imported in here, when it is called, so that `--help` answers at once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from unabridged.cli import places

if TYPE_CHECKING:
    from unabridged.collection import Collection
    from unabridged.encoder import LongEncoder, Reader, ReaderName

__all__ = ["collection", "collection_to_write", "collection_with_encoder", "load_encoder"]

MODEL_FILE = "model.json"
"""Beside collection.json: which model to load when no --model says so."""


def load_encoder(model: str | None, made_with: Mapping[str, str] | None = None) -> LongEncoder:
    """The encoder of a folder, of a Hub id, or the packaged default.

    Args:
        model: which one; None for the packaged default.
        made_with: fingerprint of a collection, whose reader is then taken instead of the default.
    """
    from unabridged.encoder import LongEncoder

    reader = _reader(made_with or {})
    return LongEncoder(model) if reader is None else LongEncoder(model, reader=reader)


def collection(place: str | None) -> Collection:
    """An existing collection without its encoder: to list, show, remove, search by words."""
    from unabridged.collection import Collection

    return Collection.open(places.existing(place), if_missing="refuse")


def collection_with_encoder(place: str | None, model: str | None) -> Collection:
    """An existing collection with the encoder that made it."""
    from unabridged.collection import Collection

    folder = places.existing(place)
    encoder = load_encoder(model or _recorded_model(folder), _fingerprint(folder))
    return Collection.open(folder, encoder, if_missing="refuse")


def collection_to_write(folder: Path, model: str | None) -> Collection:
    """A collection to sync into, made if it is not there, and the obvious one from now on."""
    from unabridged.collection import Collection

    model = model or _recorded_model(folder)
    opened = Collection.open(folder, load_encoder(model, _fingerprint(folder)))
    _record_model(folder, model)
    places.remember(folder)
    return opened


def _fingerprint(folder: Path) -> dict[str, str] | None:
    from unabridged.collection import Collection

    if not (folder / places.MANIFEST).exists():
        return None
    return Collection.open(folder, if_missing="refuse").info().fingerprint


def _reader(fingerprint: Mapping[str, str]) -> Reader | None:
    """The reader that a collection was made with: the default may be another by now."""
    from unabridged.encoder import make_reader

    if "reader" not in fingerprint:
        return None
    settings: dict[str, Any] = {
        key.removeprefix("reader."): None if value == "None" else int(value)
        for key, value in fingerprint.items()
        if key.startswith("reader.")
    }
    return replace(make_reader(cast("ReaderName", fingerprint["reader"])), **settings)


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
