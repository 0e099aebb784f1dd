"""The text of one file, and the two ways of not having one."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from pathlib import Path

from unabridged._errors import DocumentError

__all__ = ["Document", "Extract", "NothingToRead", "squeeze"]


class NothingToRead(DocumentError):  # noqa: N818 - a finding, not a fault
    """A path that holds no text by its kind: an empty file, a picture, a folder read elsewhere.

    A report lists it, but it is no failure: no words were lost.
    """


@dataclass(frozen=True)
class Document:
    r"""The text of one file.

    For plain text (`media_type` "text/plain" and "text/markdown"), `text` is the decoded file and
    nothing else: no newline is translated, so an offset into `text` is an offset into
    `path.read_bytes().decode(metadata["encoding"], "replace")`. A byte order mark belongs to the
    encoding ("utf-8-sig", "utf-16"), not to the text.

    Attributes:
        id: the path relative to the indexed folder, with forward slashes.
        text: the whole text.
        path: where it was read, or None if it was handed over as a string.
        media_type: such as "text/plain" or "application/pdf".
        page_starts: the offset at which each page begins; empty where there are no pages.
        metadata: whatever the file says of itself ("title", "author"), its "encoding", and what
            could not be had ("replaced_characters", "pages_without_text").

    >>> document = Document("a.pdf", "one\n\ntwo", page_starts=(0, 5))
    >>> document.page_at(6)
    2
    """

    id: str
    text: str
    path: Path | None = None
    media_type: str = "text/plain"
    page_starts: tuple[int, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)

    def page_at(self, offset: int) -> int | None:
        """The page, counted from 1, on which the character at `offset` stands."""
        return bisect_right(self.page_starts, offset) or None


@dataclass(frozen=True)
class Extract:
    """What a converter made of the bytes of a file: text, pages, metadata."""

    text: str
    metadata: dict[str, str] = field(default_factory=dict)
    page_starts: tuple[int, ...] = ()


def squeeze(value: str | None) -> str:
    r"""A title or a name on one line.

    >>> squeeze("  The\n Report ")
    'The Report'
    """
    return " ".join((value or "").split())
