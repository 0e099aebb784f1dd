"""How much of a folder a model would never see, were its input cut as other tools cut it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from unabridged._errors import DocumentError
from unabridged.collection.documents import NothingToRead, document_id, read_document, walk

__all__ = ["Audit", "AuditedFile", "audit_folder"]


@dataclass(frozen=True, slots=True)
class AuditedFile:
    """One file.

    Attributes:
        id: path relative to the folder.
        tokens: all of it.
        unseen: tokens beyond what the model takes.
    """

    id: str
    tokens: int
    unseen: int


@dataclass(frozen=True, slots=True)
class Audit:
    """A folder.

    Attributes:
        max_length: tokens that the model takes.
        files: those with text, in the order of the folder.
        failed: ids and reasons of documents that could not be read.
    """

    max_length: int
    files: tuple[AuditedFile, ...]
    failed: tuple[tuple[str, str], ...]

    @property
    def tokens(self) -> int:
        """Of all files."""
        return sum(file.tokens for file in self.files)

    @property
    def unseen(self) -> int:
        """Of all files."""
        return sum(file.unseen for file in self.files)


def audit_folder(folder: Path, *, max_length: int, count_tokens: Callable[[str], int]) -> Audit:
    """Count the tokens of every document, and those beyond the first `max_length`.

    Args:
        folder: with documents.
        max_length: tokens that the model takes, special ones not counted.
        count_tokens: the model's own count.
    """
    files: list[AuditedFile] = []
    failed: list[tuple[str, str]] = []
    for path in walk(folder):
        try:
            document = read_document(path, folder)
        except NothingToRead:
            continue
        except DocumentError as error:
            failed.append((document_id(path, folder), str(error)))
            continue
        tokens = count_tokens(document.text)
        files.append(AuditedFile(document.id, tokens, max(0, tokens - max_length)))
    return Audit(max_length, tuple(files), tuple(failed))
