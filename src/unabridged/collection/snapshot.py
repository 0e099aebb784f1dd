"""One consistent view of both tables and the whitening, kept until something changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from unabridged._errors import CollectionError
from unabridged.collection.calibration import Calibration, load_calibration
from unabridged.collection.catalogue import Catalogue, read_catalogue
from unabridged.collection.dense import DenseIndex
from unabridged.collection.manifest import Manifest
from unabridged.collection.store import Overtaken, Store

__all__ = ["Snapshot", "Snapshots", "steady"]

ATTEMPTS = 8
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a search works on.

    Attributes:
        catalogue: the visible documents.
        index: their vectors; None where no search has needed them yet.
        calibration: maps of passages and queries into the index's space.
    """

    catalogue: Catalogue
    index: DenseIndex | None
    calibration: Calibration


class Snapshots:
    """Remembers the last snapshot and gives it again while nothing has changed.

    Args:
        folder: of the collection.
        store: its tables.
        memory: bytes that the vectors may take.
    """

    def __init__(self, folder: Path, store: Store, *, memory: int) -> None:
        self._folder, self._store, self._memory = folder, store, memory
        self._key: tuple[object, ...] = ()
        self._last: Snapshot | None = None

    def current(self, *, vectors: bool) -> Snapshot:
        """The newest state, with its vectors if they are wanted."""
        record = Manifest.load(self._folder).whitening
        key = (*self._store.refresh(), record)
        last = self._last if key == self._key else None
        if last is not None and (last.index is not None or not vectors):
            return last
        catalogue = read_catalogue(self._store) if last is None else last.catalogue
        calibration = load_calibration(self._folder, record)
        index = self._index(catalogue, calibration) if vectors else None
        self._key, self._last = key, Snapshot(catalogue, index, calibration)
        return self._last

    def _index(self, catalogue: Catalogue, calibration: Calibration) -> DenseIndex:
        maps = calibration.passages
        index = DenseIndex.build(self._store, catalogue, maps, memory=self._memory)
        if not index.whole:
            # The tables were opened around somebody's commit: between two of its steps.
            raise Overtaken("passages of a document")
        return index


def steady(read: Callable[[], T]) -> T:
    """Read again where another process has cleaned up the version that was being read."""
    for _ in range(ATTEMPTS - 1):
        try:
            return read()
        except Overtaken:
            continue
        except (OSError, RuntimeError, ValueError) as error:
            if not _is_missing_file(error):
                raise
    try:
        return read()
    except (Overtaken, FileNotFoundError) as error:
        message = (
            f"read: a file of the collection is missing ({error}); sync again to mend it, or "
            f"restore the folder from a backup."
        )
        raise CollectionError(message) from error


def _is_missing_file(error: Exception) -> bool:
    text = str(error).lower()
    return isinstance(error, FileNotFoundError) or "not found" in text or "no such file" in text
