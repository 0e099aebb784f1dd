"""Two streams: results on standard output, everything else on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sized
from contextlib import AbstractContextManager, nullcontext
from typing import TextIO

from rich.console import Console

__all__ = [
    "DONE",
    "ERROR",
    "INTERRUPTED",
    "PARTLY",
    "counted",
    "print_json",
    "print_json_lines",
    "results",
    "say",
    "waiting",
]

DONE = 0
ERROR = 1
PARTLY = 3
INTERRUPTED = 130

UNBROKEN = 10_000
"""Columns of a file or a pipe, where a broken line would break what reads it."""


def results() -> Console:
    """Standard output for people: colours on a terminal, unbroken lines in a pipe or a file."""
    return Console(width=_width(sys.stdout), highlight=False)


def notes() -> Console:
    """Standard error for people."""
    return Console(stderr=True, width=_width(sys.stderr), highlight=False)


def _width(stream: TextIO) -> int | None:
    return None if stream.isatty() else UNBROKEN


def say(message: str) -> None:
    """A remark that is no result."""
    notes().print(message, markup=False)


def waiting(what: str, *, quiet: bool) -> AbstractContextManager[object]:
    """A sign of life on a terminal while nothing can be counted yet."""
    return nullcontext() if quiet or not sys.stderr.isatty() else notes().status(what)


def counted(things: Sized, noun: str) -> str:
    """How many of what.

    >>> counted(["a"], "document"), counted([], "document")
    ('1 document', '0 documents')
    """
    return f"{len(things):,} {noun}{'' if len(things) == 1 else 's'}"


def print_json(value: object) -> None:
    """One JSON value on one line, as machines like it."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, default=str) + "\n")


def print_json_lines(values: Iterable[object]) -> None:
    """One JSON value a line."""
    for value in values:
        print_json(value)
