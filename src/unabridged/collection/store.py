"""Two LanceDB tables kept in step: passages first, then the document row that makes them count.

A document is there when, and only when, its row in `documents` is; the row names a revision, and
the passages of that revision are its passages. Passages of no such revision are invisible, and the
next writer deletes them. So a process may die between any two steps and nothing is lost, doubled or
half there.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import lancedb
import numpy as np
import pyarrow as pa
from lancedb.index import FTS
from lancedb.table import Table
from numpy.typing import NDArray
from safetensors import SafetensorError

from unabridged._errors import CollectionError
from unabridged.collection.rows import Entry, document_rows, passage_batches
from unabridged.collection.schema import DOCUMENTS, PASSAGES, documents_schema, passages_schema

__all__ = ["Known", "Overtaken", "Store", "vectors_of", "writing"]

COMMITS_BEFORE_TIDY = 16
# Characters; a search reads every text that is not indexed yet, a few million characters a second.
UNINDEXED_BEFORE_TIDY = 100_000
_BLOCK = 4096
_KEYS_A_STATEMENT = 4096


class Overtaken(Exception):  # noqa: N818
    """The tables changed while they were read; reading again helps."""


@dataclass(frozen=True, slots=True)
class Known:
    """What a sync needs to know of a stored document.

    Attributes:
        revision: ties its passages to it.
        source: the folder it came from.
        content_hash: of the bytes it was read from.
    """

    revision: int
    source: str
    content_hash: str


class Store:
    """The tables of one collection; the caller holds the write lock around every change.

    Args:
        folder: of the collection.
        dimension: D of the raw vectors.
        language: of stemming and stop words, when the tables are new.
    """

    def __init__(self, folder: Path, *, dimension: int, language: str) -> None:
        self.folder = folder
        self.dimension = dimension
        self._language = language
        self._database = lancedb.connect(folder)
        self.documents: Table = None
        self.passages: Table = None

    def create(self) -> None:
        """Make the tables that are missing; harmless where a killed process began."""
        with writing("create"):
            self._create(DOCUMENTS, documents_schema())
            self._create(PASSAGES, passages_schema(self.dimension))

    def open(self) -> None:
        """Open both tables at their newest version.

        Raises:
            CollectionError: a table is missing or damaged.
        """
        try:
            self.documents = self._database.open_table(DOCUMENTS)
            self.passages = self._database.open_table(PASSAGES)
        except (OSError, ValueError, RuntimeError) as error:
            message = (
                f"open: the tables of {self.folder} cannot be read ({_first_line(error)}); restore "
                f"the folder from a backup, or index into another."
            )
            raise CollectionError(message) from error

    def refresh(self) -> tuple[int, int]:
        """Move to the newest version; gives the versions of documents and passages."""
        self.documents.checkout_latest()
        self.passages.checkout_latest()
        return int(self.documents.version), int(self.passages.version)

    def known(self) -> dict[str, Known]:
        """Every document by id; one whose passages are incomplete has no content hash."""
        rows = self.scan_documents(["id", "revision", "source", "content_hash", "passages"])
        counts = self.passage_counts()
        return {
            row["id"]: Known(
                row["revision"],
                row["source"],
                row["content_hash"] if counts.get(row["revision"], 0) == row["passages"] else "",
            )
            for row in rows.to_pylist()
        }

    def passage_counts(self) -> Mapping[int, int]:
        """How many passages each revision has, visible or not."""
        columns = [batch["revision"].to_numpy() for batch in self.scan_passages(["revision"])]
        revisions = np.concatenate([np.empty(0, dtype=np.int64), *columns])
        keys, counts = np.unique(revisions, return_counts=True)
        return dict(zip(keys.tolist(), counts.tolist(), strict=True))

    def commit(self, entries: list[Entry], replaced: Iterable[int]) -> None:
        """Add or replace a group of documents.

        Args:
            entries: with revisions never used before.
            replaced: revisions that these documents had until now.
        """
        with writing("sync"):
            schema = passages_schema(self.dimension)
            batches = passage_batches(entries, self.dimension)
            self.passages.add(pa.RecordBatchReader.from_batches(schema, batches))
            merge = self.documents.merge_insert("id")
            merge = merge.when_matched_update_all().when_not_matched_insert_all()
            merge.execute(document_rows(entries))
        self._delete(self.passages, replaced)

    def drop(self, revisions: Iterable[int]) -> None:
        """Remove documents: first their rows, so that no half of one is ever seen."""
        revisions = list(revisions)
        self._delete(self.documents, revisions)
        self._delete(self.passages, revisions)

    def adopt(self, revisions: Iterable[int], source: str) -> None:
        """Say that documents belong to another source now: their folder has moved."""
        keys = list(revisions)
        values = {"source": _quoted(source)}
        if source:
            values["path"] = f"{_quoted(source + '/')} || id"
        with writing("sync"):
            for start in range(0, len(keys), _KEYS_A_STATEMENT):
                chosen = _among(keys[start : start + _KEYS_A_STATEMENT])
                self.documents.update(where=chosen, values_sql=values)

    def discard_orphans(self) -> int:
        """Delete passages that a killed process left behind; gives the highest revision used."""
        live = set(self.scan_documents(["revision"])["revision"].to_pylist())
        present = set(self.passage_counts())
        self._delete(self.passages, sorted(present - live))
        return max(live | present, default=0)

    def tidy(self) -> None:
        """Compact and index where enough small commits, or enough text, have gathered."""
        much = self._unindexed_characters() > UNINDEXED_BEFORE_TIDY
        for table in (self.documents, self.passages):
            if much or len(table.list_versions()) > COMMITS_BEFORE_TIDY:
                _optimize(table)

    def compact(self) -> None:
        """Merge fragments, update the indexes, delete old versions, lost files and removed rows."""
        for name, table in ((DOCUMENTS, self.documents), (PASSAGES, self.passages)):
            _optimize(table)
            if any((self.folder / f"{name}.lance" / "_deletions").glob("*")):
                # Removed rows stay in a large file until enough are gone; writing every row anew
                # leaves none behind.
                with writing("compact"):
                    table.update(values_sql={"revision": "revision"})
            # The first run indexes what the second may then merge.
            _optimize(table)

    def scan_documents(self, columns: list[str], where: str | None = None) -> pa.Table:
        """Chosen columns of `documents`; the texts stay on disk unless asked for."""
        query = self.documents.search().select(columns)
        return (query.where(where) if where else query).to_arrow()

    def scan_passages(
        self, columns: list[str], where: str | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Chosen columns of `passages`, a block at a time."""
        query = self.passages.search().select(columns)
        yield from (query.where(where) if where else query).to_batches(_BLOCK)

    def scan_vectors(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """(revisions, (block, D) raw vectors), a block at a time."""
        for batch in self.scan_passages(["revision", "vector"]):
            yield batch["revision"].to_numpy(), vectors_of(batch["vector"])

    def _unindexed_characters(self) -> int:
        rows = self.documents.index_stats("text_idx").num_unindexed_rows
        newest = self.scan_documents(["revision", "characters"]).sort_by("revision")
        return sum(newest["characters"].to_pylist()[newest.num_rows - rows :])

    def _create(self, name: str, schema: pa.Schema) -> None:
        table = self._database.create_table(name, schema=schema, exist_ok=True)
        if not table.list_indices():
            # Words of languages without spaces are segmented; other words split as usual.
            config = FTS(base_tokenizer="icu/split", language=self._language)
            table.create_index("text", config=config)

    def _delete(self, table: Table, revisions: Iterable[int]) -> None:
        keys = list(revisions)
        with writing("delete"):
            for start in range(0, len(keys), _KEYS_A_STATEMENT):
                table.delete(_among(keys[start : start + _KEYS_A_STATEMENT]))


def vectors_of(column: pa.Array) -> NDArray[np.float32]:
    """(rows, D) float32 of a fixed-size list column of float16."""
    width = column.type.list_size
    flat = column.flatten().to_numpy()
    return np.asarray(flat, dtype=np.float32).reshape(-1, width)


def _among(revisions: list[int]) -> str:
    return f"revision IN ({', '.join(map(str, revisions))})"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _optimize(table: Table) -> None:
    with warnings.catch_warnings(), writing("tidy"):
        # We hold the write lock, and readers start again when a version vanishes under them.
        warnings.simplefilter("ignore", UserWarning)
        table.optimize(cleanup_older_than=timedelta(0), delete_unverified=True)


@contextmanager
def writing(what: str) -> Iterator[None]:
    """Turn what the disk or the database says of a write into one clear error.

    Args:
        what: the verb for the message.

    Raises:
        CollectionError: the write was refused.
    """
    try:
        yield
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        message = (
            f"{what}: the disk or the database refused to write ({_first_line(error)}); what was "
            f"committed before is whole, so make room or mend the cause and sync again."
        )
        raise CollectionError(message) from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
