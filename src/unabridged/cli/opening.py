"""Bring a collection and its encoder together: the one place where the command line does so.

Everything heavy is imported in here, when it is called, so that `--help` answers at once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import typer

from unabridged.cli import places

if TYPE_CHECKING:
    from unabridged.attention.protocol import Attention
    from unabridged.collection import Collection, Settings
    from unabridged.encoder import LongEncoder, Reader, ReaderName

__all__ = [
    "collection",
    "collection_to_write",
    "collection_with_encoder",
    "load_encoder",
    "model_of",
    "parse_reader",
    "reader_wanted",
]

MODEL_FILE = "model.json"
"""Beside collection.json: which model to load when no --model says so. The collection knows this
name too, as one that may stand in its folder."""


def load_encoder(
    model: str | None,
    made_with: Mapping[str, str] | None = None,
    *,
    reader: str | None = None,
    attention: str | None = None,
) -> LongEncoder:
    """The encoder of a folder, of a Hub id, or the packaged default.

    Args:
        model: which one; None for the packaged default.
        made_with: fingerprint of a collection, whose reader and attention stand in for the
            defaults.
        reader: as `--reader` has it; wins over the collection's.
        attention: a name; wins over the collection's.
    """
    from unabridged.encoder import LongEncoder
    from unabridged.encoder.long_encoder import DEFAULT_READER

    recorded = made_with or {}
    read_by = _reader(recorded) if reader is None else parse_reader(reader)
    mixed_by = _attention(recorded) if attention is None else _parse_attention(attention)
    return LongEncoder(model, reader=read_by or DEFAULT_READER, attention=mixed_by)


def parse_reader(text: str) -> Reader:
    """A reader by its name, or by its name and the tokens of a passage: `full:126`.

    Raises:
        typer.BadParameter: neither.
    """
    from unabridged.encoder import make_reader

    name, _, passage = text.partition(":")
    try:
        reader = make_reader(cast("ReaderName", name))
        return replace(reader, passage=int(passage)) if passage else reader
    except ValueError as error:
        raise typer.BadParameter(
            f"got {text!r}; wanted chunks, windows, full or truncate, or one of them with the "
            "tokens of a passage, at least 1, such as full:126.",
            param_hint="--reader",
        ) from error


def _parse_attention(name: str) -> Attention:
    from unabridged.attention.choices import make_attention

    try:
        return make_attention(name)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--attention") from error


def collection(place: str | None) -> Collection:
    """An existing collection without its encoder: to list, show, remove, search by words."""
    from unabridged.collection import Collection

    return Collection.open(places.existing(place), if_missing="refuse")


def collection_with_encoder(place: str | None, model: str | None) -> Collection:
    """An existing collection with the encoder that made it."""
    from unabridged.collection import Collection

    folder = places.existing(place)
    encoder = load_encoder(model or model_of(folder), _fingerprint(folder))
    return Collection.open(folder, encoder, if_missing="refuse")


def collection_to_write(
    folder: Path, model: str | None, *, reader: str | None = None, attention: str | None = None
) -> Collection:
    """A collection to sync into, made if it is not there, and the obvious one from now on."""
    from unabridged.collection import Collection

    made_with = _fingerprint(folder)
    wanted = _settings(folder) if not (made_with or model or reader) else None
    if wanted:
        model, made_with = wanted.place_of_model(folder), wanted.reader
    model = model or model_of(folder)
    encoder = load_encoder(model, made_with, reader=reader, attention=attention)
    opened = Collection.open(folder, encoder)
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


def _attention(fingerprint: Mapping[str, str]) -> Attention | None:
    """The attention that a collection was made with, if it was not the usual one."""
    if "attention" not in fingerprint:
        return None
    from unabridged.attention.choices import from_settings

    return from_settings(json.loads(fingerprint["attention"]))


def reader_wanted(folder: Path) -> str | None:
    """Name of the reader that `probe` chose, where the collection was read by another one."""
    wanted, made_with = _settings(folder), _fingerprint(folder)
    if wanted is None or made_with is None or wanted.fits(made_with):
        return None
    return wanted.reader["reader"]


def model_of(folder: Path) -> str | None:
    """The model that a collection was made with: a folder or a Hub id; None for the default."""
    from unabridged.collection.settings import place_of_model

    try:
        model = json.loads((folder / MODEL_FILE).read_text(encoding="utf-8"))["model"]
    except FileNotFoundError:
        return None
    return place_of_model(model, folder)


def _settings(folder: Path) -> Settings | None:
    from unabridged.collection import Settings

    return Settings.load(folder)


def _record_model(folder: Path, model: str | None) -> None:
    """A model inside the collection's own folder moves with it."""
    if model is not None and Path(model).expanduser().is_dir():
        place = Path(model).expanduser().resolve()
        inside = place.is_relative_to(folder.resolve())
        model = f"./{place.relative_to(folder.resolve())}" if inside else str(place)
    (folder / MODEL_FILE).write_text(json.dumps({"model": model}) + "\n", encoding="utf-8")
