"""What is stored, as it is given back: summaries, whole documents, passages with vectors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unabridged._reading import Coverage, Span
from unabridged.collection.manifest import Manifest, WhiteningRecord
from unabridged.collection.store import Store, vectors_of

__all__ = ["CollectionInfo", "StoredDocument", "StoredPassage", "Summary"]


@dataclass(frozen=True, slots=True)
class Summary:
    """A document without its text.

    Attributes:
        id: unique in the collection.
        path: of its file, or None.
        media_type: such as "text/plain".
        characters: length of the text.
        passages: how many there are.
        coverage: what was read of it; of the unread spans too.
        metadata: as its reader found it.
        content_hash: of the bytes it was read from.
        source: the folder it was synced from; empty for what was handed over loose.
    """

    id: str
    path: str | None
    media_type: str
    characters: int
    passages: int
    coverage: Coverage
    metadata: dict[str, str]
    content_hash: str
    source: str


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A document with its text.

    Attributes:
        summary: everything but the text.
        text: all of it.
        page_starts: where each page begins; empty where there are no pages.
    """

    summary: Summary
    text: str
    page_starts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class StoredPassage:
    """A passage as it was read.

    Attributes:
        text: exactly `document_text[chars[0]:chars[1]]`.
        chars: character span in the document.
        tokens: token span in the document.
        line: line on which it begins, counted from 1.
        line_end: line on which it ends.
        page: page on which it begins, counted from 1, or None.
        vector: (D,) float32, raw as the model gave it, to the precision of float16.
    """

    text: str
    chars: Span
    tokens: Span
    line: int
    line_end: int
    page: int | None
    vector: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class CollectionInfo:
    """How a collection is.

    Attributes:
        path: of its folder.
        schema_version: of its tables.
        fingerprint: of the encoder that made the vectors.
        documents: how many there are.
        passages: how many they have together.
        tokens: how many were read.
        whitening: the last decision about whitening, if there was one.
        versions: old and new versions kept on disk, of both tables.
        fragments: data files in use, of both tables.
    """

    path: str
    schema_version: int
    fingerprint: dict[str, str]
    documents: int
    passages: int
    tokens: int
    whitening: WhiteningRecord | None
    versions: int
    fragments: int


_SUMMARY = [
    "id", "path", "media_type", "characters", "passages", "tokens_read", "tokens_total", "unread",
    "metadata", "content_hash", "source", "revision",
]  # fmt: skip


def read_summaries(store: Store) -> list[Summary]:
    """All documents, by id."""
    rows = store.scan_documents(_SUMMARY).sort_by("id").to_pylist()
    return [_summary(row) for row in rows]


def read_document_row(store: Store, id: str) -> StoredDocument | None:
    """One document with its text, or None."""
    rows = store.scan_documents([*_SUMMARY, "page_starts", "text"], _with_id(id)).to_pylist()
    if not rows:
        return None
    return StoredDocument(_summary(rows[0]), rows[0]["text"], tuple(rows[0]["page_starts"] or ()))


def read_passages(store: Store, id: str) -> list[StoredPassage] | None:
    """The passages of one document in order, or None where there is no such document."""
    revisions = store.scan_documents(["revision"], _with_id(id))["revision"].to_pylist()
    if not revisions:
        return None
    columns = [
        "ordinal", "char_start", "char_end", "token_start", "token_end", "line", "line_end",
        "page", "text", "vector",
    ]  # fmt: skip
    batches = store.scan_passages(columns, f"revision = {revisions[0]}")
    found = {row.pop("ordinal"): _passage(row) for row in _rows_with_vectors(batches)}
    return [found[ordinal] for ordinal in sorted(found)]


def _rows_with_vectors(batches: Iterator[Any]) -> Iterator[dict[str, Any]]:
    for batch in batches:
        vectors = vectors_of(batch["vector"])
        rows = batch.drop_columns(["vector"]).to_pylist()
        for row, vector in zip(rows, vectors, strict=True):
            yield {**row, "vector": vector}


def _passage(row: dict[str, Any]) -> StoredPassage:
    return StoredPassage(
        text=row["text"],
        chars=(row["char_start"], row["char_end"]),
        tokens=(row["token_start"], row["token_end"]),
        line=row["line"],
        line_end=row["line_end"],
        page=row["page"],
        vector=row["vector"],
    )


def _summary(row: dict[str, Any]) -> Summary:
    unread = tuple((span["start"], span["end"]) for span in row["unread"] or ())
    return Summary(
        id=row["id"],
        path=row["path"],
        media_type=row["media_type"],
        characters=row["characters"],
        passages=row["passages"],
        coverage=Coverage(row["tokens_read"], row["tokens_total"], unread),
        metadata=json.loads(row["metadata"]),
        content_hash=row["content_hash"],
        source=row["source"],
    )


def _with_id(id: str) -> str:
    return "id = '" + id.replace("'", "''") + "'"


def read_info(store: Store, manifest: Manifest) -> CollectionInfo:
    """Sizes and settings."""
    rows = store.scan_documents(["passages", "tokens_read"])
    tables = store.documents, store.passages
    return CollectionInfo(
        path=str(store.folder),
        schema_version=manifest.schema_version,
        fingerprint=manifest.fingerprint,
        documents=rows.num_rows,
        passages=sum(rows["passages"].to_pylist()),
        tokens=sum(rows["tokens_read"].to_pylist()),
        whitening=manifest.whitening,
        versions=sum(len(table.list_versions()) for table in tables),
        fragments=sum(table.stats()["fragment_stats"]["num_fragments"] for table in tables),
    )
