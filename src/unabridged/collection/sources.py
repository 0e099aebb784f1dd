"""What may be synced (a folder, files, texts), each as candidates: an id, a hash, a way to load."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass, replace
from pathlib import Path

from unabridged._errors import CollectionError, DocumentError
from unabridged.collection.documents import (
    Document,
    NothingToRead,
    file_digest,
    read_document,
    walk,
)

__all__ = ["LOOSE", "Candidate", "Failure", "Item", "Source", "Unreadable", "open_source"]

Item = Path | str | tuple[str, str] | Document
"""What a sync takes beside a folder: a file, a pair (id, text), or a document ready made."""

LOOSE = ""
"""The source of documents that were handed over one by one, not found in a folder."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A document that could not be read, and why.

    Attributes:
        id: where it was looked for.
        reason: fit for a report.
    """

    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A candidate that cannot even be hashed; `empty` where no words were lost by that."""

    failure: Failure
    empty: bool


@dataclass(frozen=True, slots=True)
class Candidate:
    """A document that may have to be read.

    Attributes:
        id: unique in the collection.
        content_hash: equal hashes mean nothing has to be done.
        size: in bytes or characters, for estimates only.
        load: reads it; gives the document and the hash of what was in fact read.
    """

    id: str
    content_hash: str
    size: int
    load: Callable[[], tuple[Document, str]]


@dataclass(frozen=True, slots=True)
class Source:
    """Where candidates come from.

    Attributes:
        name: what vanishes is looked for among earlier documents of the same name.
        candidates: lazily; read once.
        sized: "known" where walking through all candidates first is cheap and safe.
    """

    name: str
    candidates: Iterator[Candidate | Unreadable]
    sized: bool


def open_source(
    source: Path | str | Iterable[Item], *, owner_of: Callable[[str], str | None], into: Path
) -> Source:
    """Recognise a folder, a file, or an iterable of files, pairs and documents.

    Args:
        source: what the user handed over.
        owner_of: the source that an id already belongs to, if any.
        into: the collection's own folder, which is no source of documents.

    Raises:
        CollectionError: no such folder or file, or a folder without a single file.
    """
    if not isinstance(source, Path | str):
        return Source(LOOSE, map(_of_item, source), isinstance(source, Sized))
    path = Path(source).expanduser()
    if path.is_dir():
        root = path.resolve()
        own = into.resolve()
        paths = (found for found in walk(root) if not found.is_relative_to(own))
        return Source(str(root), _of_folder(path, paths, root, owner_of), sized=True)
    if path.exists():
        return Source(LOOSE, iter([_of_file(path)]), sized=True)
    message = (
        f"sync: {path} does not exist; expected a folder, a file, or an iterable of files or "
        f"(id, text) pairs, so check the spelling."
    )
    raise CollectionError(message)


def _of_folder(
    folder: Path, paths: Iterator[Path], root: Path, owner_of: Callable[[str], str | None]
) -> Iterator[Candidate | Unreadable]:
    first = next(paths, None)
    if first is None:
        message = (
            f"sync: {folder} holds no files, so nothing was changed; name the folder that holds "
            f"the documents, or remove documents by their ids."
        )
        raise CollectionError(message)
    yield _below(first, root, owner_of)
    for path in paths:
        yield _below(path, root, owner_of)


def _below(path: Path, root: Path, owner_of: Callable[[str], str | None]) -> Candidate | Unreadable:
    name = _storable(path.relative_to(root).as_posix() if path != root else path.name)
    owner = owner_of(name)
    # Two folders may hold the same relative path; a folder that moved takes its documents along.
    taken = owner is not None and owner != str(root) and (owner == LOOSE or Path(owner).is_dir())
    return _of_path(path, _storable(path.as_posix()) if taken else name)


def _of_item(item: Item) -> Candidate | Unreadable:
    if isinstance(item, Document):
        return _of_document(item)
    if isinstance(item, Path | str):
        return _of_file(Path(item).expanduser())
    id, text = item
    return _of_document(Document(id=id, text=text))


def _of_file(path: Path) -> Candidate | Unreadable:
    absolute = path.absolute()
    return _of_path(absolute, _storable(absolute.as_posix()))


def _of_path(path: Path, id: str) -> Candidate | Unreadable:
    try:
        content_hash = file_digest(path)
        size = path.stat().st_size
    except NothingToRead as error:
        return Unreadable(Failure(id, str(error)), empty=True)
    except DocumentError as error:
        return Unreadable(Failure(id, str(error)), empty=False)
    except OSError as error:
        return Unreadable(Failure(id, f"cannot be read: {error.strerror}"), empty=False)
    return Candidate(id, content_hash, size, lambda: _read_whole(path, id, content_hash))


def _of_document(document: Document) -> Candidate | Unreadable:
    if not document.text:
        return Unreadable(Failure(document.id, "is empty"), empty=True)
    extras = [document.metadata, document.page_starts, document.media_type, str(document.path)]
    digest = hashlib.sha256(json.dumps(extras, sort_keys=True).encode())
    digest.update(document.text.encode("utf-8", "surrogatepass"))
    content_hash = digest.hexdigest()
    # A lone surrogate is no character; the columns hold UTF-8 and could not give it back.
    text = document.text.encode("utf-8", "replace").decode("utf-8")
    whole = replace(document, text=text)
    return Candidate(document.id, content_hash, len(text), lambda: (whole, content_hash))


def _read_whole(path: Path, id: str, content_hash: str) -> tuple[Document, str]:
    for _ in range(2):
        document = read_document(path, path.parent)
        seen = file_digest(path)
        if seen == content_hash:
            return replace(document, id=id), seen
        content_hash = seen
    raise DocumentError("changed while it was read; sync again when it is at rest")


def _storable(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
