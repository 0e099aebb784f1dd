"""One file to one document: the bytes, the converter that its name asks for, the text."""

from __future__ import annotations

from pathlib import Path

from unabridged.collection.documents.document import Document, Extract
from unabridged.collection.documents.files import DEFAULT_MAX_BYTES, read_stable
from unabridged.collection.documents.html import read_html
from unabridged.collection.documents.kinds import HTML, media_type
from unabridged.collection.documents.office import read_docx, read_epub
from unabridged.collection.documents.plain import decode

__all__ = ["document_id", "read_document"]


def read_document(path: Path, root: Path, *, max_bytes: int = DEFAULT_MAX_BYTES) -> Document:
    """Read the text of one file.

    Args:
        path: a file below `root`, as `walk` yields it.
        root: the folder that ids are relative to.
        max_bytes: refuse larger files, and archives that unfold to more.

    Raises:
        DocumentError: the text cannot be had; the message is the reason.
        NothingToRead: its child, for what is no document or holds no words.
    """
    data = read_stable(path, max_bytes)
    extract = _extract(data, path.suffix.lower(), max_bytes)
    return Document(
        id=document_id(path, root),
        text=extract.text,
        path=path,
        media_type=media_type(path),
        page_starts=extract.page_starts,
        metadata=extract.metadata,
    )


def document_id(path: Path, root: Path) -> str:
    """The path of a file relative to `root`, with forward slashes, as text that can be stored.

    Bytes in a name that are no UTF-8 show as backslash escapes.

    >>> document_id(Path("minutes/2024/may.txt"), Path("minutes"))
    '2024/may.txt'
    """
    name = path.relative_to(root).as_posix() if path != root else path.name
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _extract(data: bytes, suffix: str, max_bytes: int) -> Extract:
    if suffix == ".pdf":
        # Its library takes a while to load and few folders need it.
        from unabridged.collection.documents.pdf import read_pdf

        return read_pdf(data, max_chars=max_bytes)
    if suffix == ".docx":
        return read_docx(data, max_bytes=max_bytes)
    if suffix == ".epub":
        return read_epub(data, max_bytes=max_bytes)
    if suffix in HTML:
        return read_html(data)
    return decode(data)
