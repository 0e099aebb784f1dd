"""Which files hold documents, told by name and by their first bytes.

Every file that is text is read as text whatever its name, because people keep documents in README,
notes.2024 and minutes.vtt. Names decide only where bytes cannot: which converter to take, and
whether unreadable bytes are a loss worth an exit code or simply a picture.
"""

from __future__ import annotations

from pathlib import Path

from unabridged._errors import DocumentError
from unabridged.collection.documents.document import NothingToRead
from unabridged.collection.documents.plain import looks_binary

__all__ = ["HTML", "check_kind", "media_type"]

HTML = frozenset({".html", ".htm", ".xhtml"})
CONVERTED = {
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ".epub": "application/epub+zip",
    ".pdf": "application/pdf",
}
PROSE = frozenset({".txt", ".text", ".md", ".markdown", ".rst", ".adoc", ".org", ".tex", ".log"})
# Words in containers that nothing here opens; .rtf, .ps and .ipynb pass for text and are noise.
CLOSED = frozenset({
    ".doc", ".odt", ".rtf", ".pages", ".ppt", ".pptx", ".odp", ".xls", ".xlsx", ".ods", ".ps",
    ".ipynb", ".mobi", ".azw3", ".djvu",
})  # fmt: skip
DRAWN = frozenset({".svg", ".eps"})


def media_type(path: Path) -> str:
    """The media type under which a file is read.

    >>> media_type(Path("notes.md")), media_type(Path("minutes.vtt"))
    ('text/markdown', 'text/plain')
    """
    suffix = path.suffix.lower()
    if suffix in HTML:
        return "text/html"
    if suffix in {".md", ".markdown"}:
        return "text/markdown"
    return CONVERTED.get(suffix, "text/plain")


def check_kind(path: Path, head: bytes) -> None:
    """Refuse a file that is no document, given its first bytes.

    Raises:
        NothingToRead: empty, or binary under a name that promises no text.
        DocumentError: text that cannot be had, or binary under a name that promises text.
    """
    suffix = path.suffix.lower()
    if not head:
        raise NothingToRead("is empty")
    if suffix in CLOSED:
        raise DocumentError(f"is of a kind that is not read ({suffix}); save it as .docx or .pdf")
    if suffix in DRAWN:
        raise NothingToRead(f"is a picture ({suffix})")
    if suffix in CONVERTED or not looks_binary(head):
        return
    if suffix in PROSE or suffix in HTML:
        raise DocumentError(f"holds binary data under the name of a text file ({suffix})")
    raise NothingToRead(f"is binary, not a document ({suffix or 'no suffix'})")
