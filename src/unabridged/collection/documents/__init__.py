"""Files to text: what a folder holds, and the text of each file with its pages and its encoding.

    path ─ walk ─► files ─ read_document ─► Document(text, page_starts, metadata)

Every path that `walk` yields either reads as a `Document` or raises a `DocumentError` whose message
is fit for a report; nothing is passed over in silence.
"""

from __future__ import annotations

from unabridged.collection.documents.document import Document, NothingToRead
from unabridged.collection.documents.files import DEFAULT_MAX_BYTES, file_digest, walk
from unabridged.collection.documents.kinds import media_type
from unabridged.collection.documents.reading import document_id, read_document

__all__ = [
    "DEFAULT_MAX_BYTES",
    "Document",
    "NothingToRead",
    "document_id",
    "file_digest",
    "media_type",
    "read_document",
    "walk",
]
