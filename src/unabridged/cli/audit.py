"""`unabridged audit`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from unabridged.cli import opening
from unabridged.cli.console import DONE, PARTLY, print_json, results, say, waiting
from unabridged.cli.options import AsJson, Quiet

if TYPE_CHECKING:
    from unabridged.cli.auditing import Audit

__all__ = ["audit"]

Folder = Annotated[
    Path, typer.Argument(metavar="FOLDER", exists=True, file_okay=False, help="With documents.")
]
AnyModel = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="FOLDER_OR_ID",
        help="A model folder or Hub id. Default: all-MiniLM-L6-v2.",
    ),
]


def audit(
    folder: Folder, model: AnyModel = None, quiet: Quiet = False, as_json: AsJson = False
) -> None:
    """Count, file by file, the tokens that a model never sees where its input is simply cut.

    That is what most tools do, without a word. Here, `index` reads them all.

    For example:

    - `unabridged audit ~/Documents/minutes`
    - `unabridged audit reports --model intfloat/e5-base-v2 --json`
    """
    # Reading documents loads the database, which `--help` must not wait for.
    from unabridged.cli.auditing import audit_folder

    with waiting("Counting tokens", quiet=quiet):
        encoder = opening.load_encoder(model)
        length, count = encoder.max_length, encoder.count_tokens
        found = audit_folder(folder, max_length=length, count_tokens=count)
    if as_json:
        print_json({**asdict(found), "tokens": found.tokens, "unseen": found.unseen})
    else:
        results().print(_table(found))
    if not quiet:
        for id, reason in found.failed:
            say(f"Could not be read: {id}: {reason}")
    raise typer.Exit(PARTLY if found.failed else DONE)


def _table(found: Audit) -> Table:
    table = Table(box=None, header_style="dim", show_footer=True, footer_style="bold")
    table.add_column("Document", f"{len(found.files):,} documents", overflow="fold")
    table.add_column("Tokens", f"{found.tokens:,}", justify="right")
    table.add_column(f"Beyond {found.max_length:,}", f"{found.unseen:,}", justify="right")
    table.add_column("Unseen", _share(found.unseen, found.tokens), justify="right")
    for file in found.files:
        share = _share(file.unseen, file.tokens)
        table.add_row(Text(file.id), f"{file.tokens:,}", f"{file.unseen:,}", share)
    return table


def _share(unseen: int, tokens: int) -> str:
    return f"{unseen / tokens:.1%}" if tokens else "0.0%"
