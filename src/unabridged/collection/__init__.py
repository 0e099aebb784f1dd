"""Documents in a folder on disk: synced, stored in LanceDB tables, searched, offline.

    text + reading ─ sync ─► documents, passages ─ search ─► hits

Knows vectors and an `Embedder`, not the library that makes them.
"""

from __future__ import annotations

from unabridged.collection.collection import Collection, Vanished
from unabridged.collection.contents import (
    CollectionInfo,
    StoredDocument,
    StoredPassage,
    Summary,
)
from unabridged.collection.embedder import Embedder
from unabridged.collection.hits import FoundPassage, Hit
from unabridged.collection.manifest import WhiteningRecord
from unabridged.collection.opening import IfMissing
from unabridged.collection.report import Progress, SyncReport
from unabridged.collection.search import WEIGHTS, Mode
from unabridged.collection.settings import Settings, reader_of
from unabridged.collection.sources import Failure, Item

__all__ = [
    "WEIGHTS",
    "Collection",
    "CollectionInfo",
    "Embedder",
    "Failure",
    "FoundPassage",
    "Hit",
    "IfMissing",
    "Item",
    "Mode",
    "Progress",
    "Settings",
    "StoredDocument",
    "StoredPassage",
    "Summary",
    "SyncReport",
    "Vanished",
    "WhiteningRecord",
    "reader_of",
]
