"""A bar in tokens with the time that is left, on a terminal; nothing elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, TextColumn

from unabridged.cli.console import notes

if TYPE_CHECKING:
    from unabridged.collection.report import Progress as Snapshot

__all__ = ["bar"]

PHASES = {
    "looking": "Looking for changes",
    "reading": "Reading",
    "tidying": "Tidying up",
    "whitening": "Fitting the whitening",
}


@contextmanager
def bar(*, quiet: bool) -> Iterator[Callable[[Snapshot], None] | None]:
    """A callback for `Collection.sync` that draws, or None where nobody would see it."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[counts]}", style="dim"),
    )
    with Progress(*columns, console=notes(), transient=True) as progress:
        task = progress.add_task("Looking for changes", total=None, counts="")

        def draw(now: Snapshot) -> None:
            progress.update(
                task,
                description=PHASES[now.phase],
                completed=now.tokens,
                total=now.tokens_total,
                counts=_counts(now),
            )

        yield draw


def _counts(now: Snapshot) -> str:
    """Tokens, documents, speed and the time that is left, as far as they are known."""
    if now.phase != "reading":
        return ""
    parts = [f"{now.tokens:,}" + (f" of about {now.tokens_total:,}" * bool(now.tokens_total))]
    parts[0] += " tokens"
    if now.documents_total:
        parts.append(f"{now.documents:,}/{now.documents_total:,} documents")
    if now.seconds > 1 and now.tokens:
        parts.append(f"{now.tokens / now.seconds:,.0f}/s")
    if now.seconds_left is not None and now.seconds > 1:
        parts.append(f"{timedelta(seconds=round(now.seconds_left))} left")
    return ", ".join(parts)
