"""Finding out what a folder is before anything in it is touched."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from unabridged._errors import CollectionError
from unabridged.collection.embedder import Embedder
from unabridged.collection.lock import HOLDER_NAME, LOCK_NAME, write_lock
from unabridged.collection.manifest import FILE_NAME, Manifest, check_fingerprint
from unabridged.collection.schema import DOCUMENTS, PASSAGES, SCHEMA_VERSION
from unabridged.collection.settings import MODEL_FILE, MODEL_PREFIX, SETTINGS_NAME
from unabridged.collection.store import Store, writing

__all__ = ["IfMissing", "open_folder"]

IfMissing = Literal["create", "refuse"]

_OURS = {
    FILE_NAME,
    FILE_NAME + ".new",
    LOCK_NAME,
    HOLDER_NAME,
    SETTINGS_NAME,
    MODEL_FILE,
    DOCUMENTS + ".lance",
    PASSAGES + ".lance",
}


def open_folder(
    folder: Path, encoder: Embedder | None, *, if_missing: IfMissing, language: str
) -> tuple[Manifest, Store]:
    """Open the collection in a folder, or make one where there is none.

    Raises:
        CollectionError: no collection and none wanted, a folder with other things in it, another
            pipeline, a newer schema, or damaged tables.
    """
    if not (folder / FILE_NAME).is_file():
        _create(folder, encoder, if_missing=if_missing, language=language)
    manifest = Manifest.load(folder)
    if encoder is not None:
        check_fingerprint(manifest.fingerprint, encoder.fingerprint)
    store = Store(folder, dimension=manifest.dimension, language=manifest.language)
    store.open()
    return manifest, store


def _create(
    folder: Path, encoder: Embedder | None, *, if_missing: IfMissing, language: str
) -> None:
    if encoder is None or if_missing == "refuse":
        message = (
            f"open: there is no collection at {folder}; check the path, or make one by syncing "
            f"documents into it with an encoder."
        )
        raise CollectionError(message)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        strangers = sorted(entry.name for entry in folder.iterdir() if not _is_ours(entry.name))
    except OSError as error:
        message = f"open: {folder} cannot be made or read ({error}); name a folder you may write."
        raise CollectionError(message) from error
    if strangers:
        message = (
            f"open: {folder} is no collection and holds other things (such as {strangers[0]}); "
            f"name a new or empty folder."
        )
        raise CollectionError(message)
    with write_lock(folder):
        if (folder / FILE_NAME).is_file():
            return
        Store(folder, dimension=encoder.dimension, language=language).create()
        # Written last: a folder without it was never a collection.
        fingerprint = dict(encoder.fingerprint)
        manifest = Manifest(SCHEMA_VERSION, encoder.dimension, fingerprint, language)
        with writing("create"):
            manifest.save(folder)


def _is_ours(name: str) -> bool:
    return name in _OURS or name.startswith(MODEL_PREFIX)
