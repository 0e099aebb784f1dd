"""collection.json: what made this collection, and whether this program may touch it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from unabridged._errors import CollectionError
from unabridged.collection.schema import SCHEMA_VERSION

__all__ = ["FILE_NAME", "Manifest", "WhiteningRecord", "check_fingerprint", "replace_file"]

FILE_NAME = "collection.json"


@dataclass(frozen=True, slots=True)
class WhiteningRecord:
    """How the last attempt to whiten went; a refusal is remembered too.

    Attributes:
        decision: "whitened", or "raw" where the held-out check declined.
        reason: the check in one sentence.
        passages: how many passages the statistics were taken from.
        revision: highest revision at that time; what came later is growth.
        mrr_raw: held-out mean reciprocal rank with raw vectors, if measured.
        mrr_whitened: the same with whitened vectors.
        file: the transform, relative to the collection's folder; empty when raw.
    """

    decision: str
    reason: str
    passages: int
    revision: int
    mrr_raw: float | None = None
    mrr_whitened: float | None = None
    file: str = ""


@dataclass(frozen=True, slots=True)
class Manifest:
    """The content of collection.json.

    Attributes:
        schema_version: of the tables; see `schema.py`.
        dimension: D of the raw vectors.
        fingerprint: of the embedder that made the vectors.
        language: of stemming and stop words in the full-text indexes.
        whitening: the last decision about whitening, if there was one.
    """

    schema_version: int
    dimension: int
    fingerprint: dict[str, str]
    language: str = "English"
    whitening: WhiteningRecord | None = None

    def save(self, folder: Path) -> None:
        """Write collection.json in one step: readers see the old one or the new one."""
        text = json.dumps(asdict(self), indent=2, sort_keys=True, ensure_ascii=False)
        replace_file(folder / FILE_NAME, text + "\n")

    def with_whitening(self, record: WhiteningRecord) -> Manifest:
        """The same manifest with another decision about whitening."""
        return replace(self, whitening=record)

    @classmethod
    def load(cls, folder: Path) -> Manifest:
        """Read collection.json.

        Raises:
            CollectionError: it is damaged, or a newer program wrote it.
        """
        file = folder / FILE_NAME
        try:
            fields = json.loads(file.read_text(encoding="utf-8"))
            _refuse_newer(folder, int(fields["schema_version"]))
            record = fields.pop("whitening")
            return cls(**fields, whitening=WhiteningRecord(**record) if record else None)
        except (ValueError, KeyError, TypeError) as error:
            message = (
                f"open: {file} is not a readable description of a collection ({error}); "
                f"restore it from a backup, or index into another folder."
            )
            raise CollectionError(message) from error


def check_fingerprint(made_with: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Refuse another pipeline than the one that made the vectors, naming each difference.

    >>> check_fingerprint({"model": "a", "reader": "windows"}, {"model": "a", "reader": "chunks"})
    Traceback (most recent call last):
    unabridged._errors.CollectionError: open: the collection was made with reader 'windows' and
    this encoder has reader 'chunks'; open it with the encoder that made it, or index into a new
    collection.
    """
    keys = [key for key in sorted({*made_with, *now}) if made_with.get(key) != now.get(key)]
    if not keys:
        return
    theirs = ", ".join(f"{key} {made_with.get(key, 'unset')!r}" for key in keys)
    ours = ", ".join(f"{key} {now.get(key, 'unset')!r}" for key in keys)
    message = (
        f"open: the collection was made with {theirs} and this encoder has {ours}; "
        f"open it with the encoder that made it, or index into a new collection."
    )
    raise CollectionError(message)


def replace_file(file: Path, text: str) -> None:
    """Put `text` where `file` stands so that a crash leaves the old content or the new."""
    fresh = file.with_name(file.name + ".new")
    with fresh.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    fresh.replace(file)


def _refuse_newer(folder: Path, version: int) -> None:
    if version > SCHEMA_VERSION:
        message = (
            f"open: {folder} has schema version {version} and this program knows versions up to "
            f"{SCHEMA_VERSION}; upgrade unabridged to open it."
        )
        raise CollectionError(message)
