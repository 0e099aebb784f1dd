"""From a document and its reading to rows: lines, pages, and record batches of bounded size."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from unabridged._errors import CollectionError
from unabridged._reading import Reading
from unabridged.collection.documents import Document
from unabridged.collection.schema import documents_schema, passages_schema

__all__ = ["Entry", "document_rows", "line_breaks", "passage_batches"]

ROWS_A_BATCH = 4096
_SCAN = 1 << 20


@dataclass(frozen=True, slots=True)
class Entry:
    """A document on its way into the store.

    Attributes:
        document: id, text, pages and metadata.
        reading: its passages.
        source: the folder it was synced from, or a name for a loose set.
        content_hash: of the bytes it was read from.
        revision: unique number that ties its passages to it.
    """

    document: Document
    reading: Reading
    source: str
    content_hash: str
    revision: int


def document_rows(entries: list[Entry]) -> pa.Table:
    """The rows of table `documents`."""
    return pa.Table.from_pylist([_row(entry) for entry in entries], schema=documents_schema())


def passage_batches(entries: list[Entry], dimension: int) -> Iterator[pa.RecordBatch]:
    """The rows of table `passages`, at most `ROWS_A_BATCH` at a time.

    Raises:
        CollectionError: a vector that float16 cannot hold.
    """
    schema = passages_schema(dimension)
    for entry in entries:
        breaks = line_breaks(entry.document.text)
        for start in range(0, len(entry.reading), ROWS_A_BATCH):
            chosen = slice(start, min(start + ROWS_A_BATCH, len(entry.reading)))
            yield _batch(entry, chosen, breaks, schema)


def line_breaks(text: str) -> NDArray[np.int64]:
    r"""Where the line feeds are, in bounded memory.

    >>> line_breaks("one\ntwo\n\nfour")
    array([3, 7, 8])
    """
    found = [
        np.flatnonzero(_code_points(text[start : start + _SCAN]) == ord("\n")) + start
        for start in range(0, len(text), _SCAN)
    ]
    return np.concatenate(found).astype(np.int64) if found else np.empty(0, dtype=np.int64)


def _code_points(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")


def _row(entry: Entry) -> dict[str, object]:
    document, coverage = entry.document, entry.reading.coverage
    return {
        "id": document.id,
        "revision": entry.revision,
        "source": entry.source,
        "path": None if document.path is None else str(document.path),
        "media_type": document.media_type,
        "content_hash": entry.content_hash,
        "characters": len(document.text),
        "passages": len(entry.reading),
        "tokens_read": coverage.tokens_read,
        "tokens_total": coverage.tokens_total,
        "unread": [{"start": start, "end": end} for start, end in coverage.unread],
        "page_starts": list(document.page_starts),
        "metadata": json.dumps(document.metadata, sort_keys=True, ensure_ascii=False),
        "text": document.text,
    }


def _batch(
    entry: Entry, chosen: slice, breaks: NDArray[np.int64], schema: pa.Schema
) -> pa.RecordBatch:
    document, chars = entry.document, entry.reading.passage_chars[chosen]
    starts, ends = chars[:, 0], chars[:, 1]
    tokens = entry.reading.passage_tokens[chosen]
    last = np.maximum(ends - 1, starts)
    columns = [
        np.full(len(chars), entry.revision),
        np.arange(chosen.start, chosen.stop),
        pa.array([document.id] * len(chars), pa.string()),
        starts,
        ends,
        tokens[:, 0],
        tokens[:, 1],
        np.searchsorted(breaks, starts) + 1,
        np.searchsorted(breaks, last) + 1,
        _pages(document.page_starts, starts),
        pa.array([document.text[a:b] for a, b in chars.tolist()], pa.large_string()),
        _half(entry, chosen),
    ]
    return pa.record_batch([pa.array(column) for column in columns], schema=schema)


def _pages(page_starts: tuple[int, ...], starts: NDArray[np.int64]) -> pa.Array:
    if not page_starts:
        return pa.nulls(len(starts), pa.int64())
    return pa.array(np.maximum(np.searchsorted(np.array(page_starts), starts, side="right"), 1))


def _half(entry: Entry, chosen: slice) -> pa.Array:
    vectors = np.asarray(entry.reading.vectors[chosen], dtype=np.float32)
    limit = np.finfo(np.float16).max
    if not np.all(np.abs(vectors) <= limit):
        message = (
            f"sync: {entry.document.id} has vectors that are not finite numbers within "
            f"±{limit:.0f}, all that the column can hold; check the model with its own examples."
        )
        raise CollectionError(message)
    flat = np.ascontiguousarray(vectors.astype(np.float16)).ravel()
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), vectors.shape[1])
