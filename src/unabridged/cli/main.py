"""All commands together, and what becomes of their errors."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from unabridged import __version__
from unabridged._errors import UnabridgedError
from unabridged.cli.adapt import adapt
from unabridged.cli.attention import attention
from unabridged.cli.audit import audit
from unabridged.cli.classify import classify, suspects
from unabridged.cli.console import ERROR, say
from unabridged.cli.demo import demo
from unabridged.cli.doctor import doctor
from unabridged.cli.documents import list_documents, remove, show
from unabridged.cli.extend import extend
from unabridged.cli.index import index
from unabridged.cli.probe import probe
from unabridged.cli.search import search
from unabridged.cli.why import why
from unabridged.cli.why_hit import why_hit

__all__ = ["app", "main"]

Version = Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)]

HELP = """
Read whole documents with a short-text encoder, search them, offline.

Results go to standard output, everything else to standard error. Every command takes --json.

Exit codes: 0 done; 1 error; 2 wrong usage; 3 done, but some documents could not be read;
130 interrupted, and what was finished is kept.
"""

app = typer.Typer(
    name="unabridged",
    help=HELP,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(index)
app.command()(search)
app.command("list")(list_documents)
app.command()(show)
app.command()(remove)
app.command()(audit)
app.command()(extend)
app.command()(adapt)
app.command()(probe)
app.command()(attention)
app.add_typer(classify, name="classify")
app.command()(why)
app.command("why-hit")(why_hit)
app.command()(suspects)
app.command()(doctor)
app.command()(demo)


@app.callback(invoke_without_command=True)
def options(version: Version = False) -> None:
    """Options that stand before the command; the help of the whole is HELP."""
    if version:
        typer.echo(f"unabridged {__version__}")
        raise typer.Exit


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and leave the process with its exit code.

    Args:
        arguments: without the name of the program; None for those of the process.
    """
    try:
        app(arguments, prog_name="unabridged")
    except UnabridgedError as error:
        say(f"Error: {error}")
        sys.exit(ERROR)
