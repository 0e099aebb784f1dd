"""One writer at a time: a lock that dies with its process and can name its holder."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import filelock

from unabridged._errors import CollectionError

__all__ = ["HOLDER_NAME", "LOCK_NAME", "write_lock"]

LOCK_NAME = "write.lock"
HOLDER_NAME = "write.holder.json"


@contextmanager
def write_lock(folder: Path) -> Iterator[None]:
    """Hold the collection for writing.

    The lock is the operating system's (released even by kill -9); the file beside it only tells
    others who holds it.

    Raises:
        CollectionError: another process, or another thread, holds it.
    """
    lock = filelock.FileLock(folder / LOCK_NAME, timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout as error:
        message = (
            f"write: {folder} is being written by {_holder(folder)}; only one writer is possible, "
            f"so wait until it ends, or stop it and sync again."
        )
        raise CollectionError(message) from error
    except OSError as error:
        message = (
            f"write: {folder} cannot be locked ({error}); check that the disk has room and that "
            f"you may write there."
        )
        raise CollectionError(message) from error
    try:
        _introduce(folder)
        yield
    finally:
        lock.release()


def _introduce(folder: Path) -> None:
    holder = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    # On a full disk the name is missing, which must not hide the error that matters.
    try:
        (folder / HOLDER_NAME).write_text(json.dumps(holder), encoding="utf-8")
    except OSError:
        (folder / HOLDER_NAME).unlink(missing_ok=True)


def _holder(folder: Path) -> str:
    try:
        holder = json.loads((folder / HOLDER_NAME).read_text(encoding="utf-8"))
        return f"process {holder['pid']} on {holder['host']} since {holder['since']}"
    except (OSError, ValueError, KeyError):
        return "another process"
