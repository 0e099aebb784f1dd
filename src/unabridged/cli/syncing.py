"""A sync as people see it: a bar while it runs, a clear word when they stop it, a report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

import typer
from rich.table import Table
from rich.text import Text

from unabridged.cli.console import INTERRUPTED, results, say
from unabridged.cli.progress import bar

if TYPE_CHECKING:
    from unabridged.collection import Collection, Failure, SyncReport

__all__ = ["report_as_json", "show_report", "sync"]

MOST_SHOWN = 20


def sync(
    collection: Collection, source: Path, *, vanished: Literal["remove", "keep"], quiet: bool
) -> SyncReport:
    """Sync, and on Ctrl-C say what was kept and how to go on."""
    try:
        with bar(quiet=quiet) as progress:
            return collection.sync(source, vanished=vanished, progress=progress)
    except KeyboardInterrupt:
        say(
            f"Interrupted. {len(collection):,} finished documents are kept in {collection.path}; "
            "the same command goes on from there."
        )
        raise typer.Exit(INTERRUPTED) from None


def report_as_json(report: SyncReport, folder: Path) -> dict[str, Any]:
    """A report for machines."""
    return {
        "collection": str(folder),
        "added": report.added,
        "changed": report.changed,
        "unchanged": len(report.unchanged),
        "removed": report.removed,
        "failed": [_failure(failure) for failure in report.failed],
        "skipped": [_failure(failure) for failure in report.skipped],
        "incomplete": report.incomplete,
        "tokens_read": report.coverage.tokens_read,
        "tokens_total": report.coverage.tokens_total,
        "seconds": round(report.seconds, 3),
        "whitening": report.whitening.decision if report.whitening else None,
    }


def show_report(report: SyncReport, folder: Path) -> None:
    """A report for people."""
    out = results()
    counts = (
        f"{len(report.added):,} new, {len(report.changed):,} changed, "
        f"{len(report.unchanged):,} unchanged, {len(report.removed):,} removed"
    )
    out.print(Text.assemble((counts, "bold"), f" in {folder}"))
    if report.tokens:
        out.print(_reading(report), markup=False)
    if report.whitening and report.tokens:
        out.print(f"Vectors: {report.whitening.decision} ({report.whitening.reason})", markup=False)
    if report.failed:
        out.print(_table("Could not be read", report.failed))
    if report.skipped:
        out.print(f"Holds no text: {_kinds(report.skipped)}", markup=False)


def _reading(report: SyncReport) -> str:
    read, total = report.coverage.tokens_read, report.coverage.tokens_total
    cut = ", ".join(report.incomplete[:MOST_SHOWN])
    share = "all of them" if read == total else f"{total - read:,} unread in {cut}"
    speed = read / max(report.seconds, 1e-9)
    return f"{read:,} tokens read, {share}; {report.seconds:,.1f} s, {speed:,.0f} tokens/s"


def _table(title: str, failures: Sequence[Failure]) -> Table:
    table = Table(title=f"{title}: {len(failures):,}", title_justify="left", title_style="bold red")
    table.add_column("File", overflow="fold")
    table.add_column("Reason", overflow="fold")
    for failure in failures[:MOST_SHOWN]:
        table.add_row(Text(failure.id), Text(failure.reason))
    if len(failures) > MOST_SHOWN:
        table.add_row("…", f"and {len(failures) - MOST_SHOWN:,} more; --json lists them all")
    return table


def _kinds(skipped: Sequence[Failure]) -> str:
    """Files without text, counted by suffix where they are many: thousands of pictures, say."""
    if len(skipped) <= 5:
        return "; ".join(f"{failure.id} {failure.reason}" for failure in skipped)
    kinds = Counter(PurePosixPath(failure.id).suffix or "no suffix" for failure in skipped)
    counts = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common())
    return f"{len(skipped):,} files ({counts}); --json lists them all"


def _failure(failure: Failure) -> dict[str, str]:
    return {"id": failure.id, "reason": failure.reason}
