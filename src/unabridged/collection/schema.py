"""The columns on disk, and the version number that guards them."""

from __future__ import annotations

import pyarrow as pa

__all__ = ["DOCUMENTS", "PASSAGES", "SCHEMA_VERSION", "documents_schema", "passages_schema"]

SCHEMA_VERSION = 1
"""Raised whenever a column or its meaning changes; a newer collection is refused, never guessed."""

DOCUMENTS = "documents"
PASSAGES = "passages"


def documents_schema() -> pa.Schema:
    """One row a document. Its presence is what makes the passages of its revision visible."""
    return pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("revision", pa.int64(), nullable=False),
            pa.field("source", pa.string(), nullable=False),
            pa.field("path", pa.string()),
            pa.field("media_type", pa.string(), nullable=False),
            pa.field("content_hash", pa.string(), nullable=False),
            pa.field("characters", pa.int64(), nullable=False),
            pa.field("passages", pa.int64(), nullable=False),
            pa.field("tokens_read", pa.int64(), nullable=False),
            pa.field("tokens_total", pa.int64(), nullable=False),
            pa.field("unread", pa.list_(_span())),
            pa.field("page_starts", pa.list_(pa.int64())),
            pa.field("metadata", pa.string(), nullable=False),
            pa.field("text", pa.large_string(), nullable=False),
        ]
    )


def passages_schema(dimension: int) -> pa.Schema:
    """One row a passage; (revision, ordinal) is its key.

    Args:
        dimension: D, the width of the raw vectors.
    """
    return pa.schema(
        [
            pa.field("revision", pa.int64(), nullable=False),
            pa.field("ordinal", pa.int64(), nullable=False),
            pa.field("document", pa.string(), nullable=False),
            pa.field("char_start", pa.int64(), nullable=False),
            pa.field("char_end", pa.int64(), nullable=False),
            pa.field("token_start", pa.int64(), nullable=False),
            pa.field("token_end", pa.int64(), nullable=False),
            pa.field("line", pa.int64(), nullable=False),
            pa.field("line_end", pa.int64(), nullable=False),
            pa.field("page", pa.int64()),
            pa.field("text", pa.large_string(), nullable=False),
            pa.field("vector", pa.list_(pa.float16(), dimension), nullable=False),
        ]
    )


def _span() -> pa.DataType:
    return pa.struct([("start", pa.int64()), ("end", pa.int64())])
