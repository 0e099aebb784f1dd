"""Paths before anything is understood: which files a folder has, and their bytes, all or none."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from unabridged._errors import DocumentError
from unabridged.collection.documents.document import NothingToRead
from unabridged.collection.documents.kinds import check_kind

__all__ = [
    "DEFAULT_MAX_BYTES",
    "check_readable",
    "file_digest",
    "megabytes",
    "os_reasons",
    "read_stable",
    "walk",
]

DEFAULT_MAX_BYTES = 100_000_000
"""Larger files are refused: their text would have to stand in memory several times over."""

ATTEMPTS = 3
HEAD = 8192


def walk(folder: Path) -> Iterator[Path]:
    """Every path below `folder` that may hold a document, in sorted order.

    Hidden files and folders (a name that begins with a dot) are left out, as shells and editors do;
    `folder` itself may be hidden. Links to files are followed. Links to folders are followed where
    they lead out of `folder`; a link into it, or to a folder above it, would read the same
    files twice or for ever, so the link itself is yielded, and reading it says why. So is a folder
    that may not be opened.

    Args:
        folder: an existing folder.

    Yields:
        Paths below `folder`, each beginning with `folder` as it was given.
    """
    yield from _walk(folder, [folder.resolve()])


def _walk(folder: Path, entered: list[Path]) -> Iterator[Path]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        yield folder
        return
    for entry in entries:
        path = folder / entry.name
        if entry.name.startswith("."):
            continue
        if not _is_folder(entry):
            yield path
        elif not entry.is_symlink():
            yield from _walk(path, entered)
        elif _overlaps(target := path.resolve(), entered):
            yield path
        else:
            entered.append(target)
            yield from _walk(path, entered)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself is no folder; reading it says what it is
        return False


def _overlaps(target: Path, entered: list[Path]) -> bool:
    return any(target.is_relative_to(seen) or seen.is_relative_to(target) for seen in entered)


@contextmanager
def os_reasons() -> Iterator[None]:
    """Turn what the operating system says of a file into a reason fit for a report."""
    try:
        yield
    except PermissionError as error:
        raise DocumentError("permission denied; make it readable for this user") from error
    except FileNotFoundError as error:
        raise DocumentError("vanished, or is a link that leads nowhere") from error
    except OSError as error:
        raise DocumentError(f"cannot be read: {error.strerror or error}") from error


def check_readable(path: Path, max_bytes: int) -> os.stat_result:
    """The status of a file that may hold a document; anything else raises with its reason.

    A pipe or device is refused before it is opened, because opening one can block for ever, and a
    film before its size is, because nobody expects its text.
    """
    with os_reasons():
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            if path.is_symlink():
                raise NothingToRead("is a link to a folder that is read at its own place")
            list(os.scandir(path))
            raise NothingToRead("is a folder")
        if not stat.S_ISREG(status.st_mode):
            raise NothingToRead("is a pipe, socket or device, not a file")
        with path.open("rb") as file:
            check_kind(path, file.read(HEAD))
    if status.st_size > max_bytes:
        raise DocumentError(
            f"has {megabytes(status.st_size)} and the limit is {megabytes(max_bytes)}; "
            "split it, or raise max_bytes"
        )
    return status


def megabytes(size: int) -> str:
    """A size for people.

    >>> megabytes(200_000_000)
    '200 MB'
    """
    return f"{size / 1e6:,.0f} MB" if size >= 10_000_000 else f"{size / 1e6:,.3g} MB"


def file_digest(path: Path, *, max_bytes: int = DEFAULT_MAX_BYTES) -> str:
    """SHA-256 of the bytes of a file, in hexadecimal.

    Raises:
        DocumentError: the file cannot be opened, is no file, or is larger than `max_bytes`.
    """
    check_readable(path, max_bytes)
    with os_reasons(), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_stable(path: Path, max_bytes: int) -> bytes:
    """The bytes of a file as they stood at one moment.

    The status is taken before and after; a file that somebody is writing is read again, and after
    three changes in a row refused, so that half of one version never meets half of another.

    Raises:
        DocumentError: unreadable, too large, or never at rest.
    """
    for _ in range(ATTEMPTS):
        before = check_readable(path, max_bytes)
        with os_reasons(), path.open("rb") as file:
            data = file.read(max_bytes + 1)
            after = os.fstat(file.fileno())
        if _same(before, after) and len(data) == after.st_size:
            return data
    raise DocumentError("keeps changing while it is read; index it again when it is at rest")


def _same(before: os.stat_result, after: os.stat_result) -> bool:
    return (before.st_ino, before.st_size, before.st_mtime_ns) == (
        after.st_ino,
        after.st_size,
        after.st_mtime_ns,
    )
