"""Which documents are visible, in a fixed order, and where their passages stand in that order."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray

from unabridged.collection.store import Store

__all__ = ["Catalogue", "read_catalogue"]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The documents of one version of a collection, ordered by revision.

    Attributes:
        ids: (M,) of the documents.
        paths: (M,) of their files, None where there is none.
        metadata: (M,) mappings.
        revisions: (M,) ascending.
        starts: (M,) where the passages of each begin among all N.
        passages: N.
    """

    ids: list[str]
    paths: list[str | None]
    metadata: list[dict[str, str]]
    revisions: NDArray[np.int64]
    starts: NDArray[np.int64]
    passages: int

    def __len__(self) -> int:
        """M, the number of documents."""
        return len(self.ids)

    def documents_of(self, revisions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Positions of the documents with these revisions, -1 for what is not visible."""
        if not len(self):
            return np.full(len(revisions), -1, dtype=np.int64)
        found = np.minimum(np.searchsorted(self.revisions, revisions), len(self) - 1)
        return np.where(self.revisions[found] == revisions, found, -1)

    def places_of(
        self, revisions: NDArray[np.int64], ordinals: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Positions of passages among all N, -1 for what is not visible."""
        documents = self.documents_of(revisions)
        if not len(self):
            return documents
        return np.where(documents >= 0, self.starts[documents] + ordinals, -1)

    def span(self, document: int) -> tuple[int, int]:
        """First and one past the last position of the passages of a document."""
        last = self.starts[document + 1] if document + 1 < len(self) else self.passages
        return int(self.starts[document]), int(last)

    def chosen(self, path: str | None, metadata: Mapping[str, str] | None) -> NDArray[np.bool_]:
        """(M,) which documents a filter lets through.

        Args:
            path: a glob over ids, such as "minutes/*.txt"; `*` also crosses folders.
            metadata: keys and the values that they must have.
        """
        kept = np.ones(len(self), dtype=np.bool_)
        if path is not None:
            kept &= np.array([fnmatchcase(id, path) for id in self.ids], dtype=np.bool_)
        for key, value in (metadata or {}).items():
            kept &= np.array([m.get(key) == value for m in self.metadata], dtype=np.bool_)
        return kept


def read_catalogue(store: Store) -> Catalogue:
    """The documents that are visible at the store's present version."""
    rows = store.scan_documents(["id", "path", "metadata", "revision", "passages"])
    rows = rows.sort_by("revision")
    counts = rows["passages"].to_numpy().astype(np.int64)
    return Catalogue(
        ids=rows["id"].to_pylist(),
        paths=rows["path"].to_pylist(),
        metadata=[json.loads(text) for text in rows["metadata"].to_pylist()],
        revisions=rows["revision"].to_numpy().astype(np.int64),
        starts=np.cumsum(counts) - counts,
        passages=int(counts.sum()),
    )
