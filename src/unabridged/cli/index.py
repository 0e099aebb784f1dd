"""`unabridged index`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unabridged.cli import opening, places, replacing, syncing
from unabridged.cli.console import DONE, PARTLY, print_json, say, waiting
from unabridged.cli.options import AsJson, AttentionChoice, Into, ModelName, Quiet, ReaderChoice

__all__ = ["index"]

Source = Annotated[
    Path, typer.Argument(metavar="FOLDER", exists=True, help="The folder with the documents.")
]
Keep = Annotated[
    bool, typer.Option("--keep", help="Keep documents whose files are no longer in FOLDER.")
]
Anew = Annotated[
    bool,
    typer.Option(
        "--anew",
        help="Read everything anew, as --model and --reader say or as `probe` chose, and replace "
        "the collection when that is done.",
    ),
]


def index(
    folder: Source,
    into: Into = None,
    model: ModelName = None,
    reader: ReaderChoice = None,
    attention: AttentionChoice = None,
    keep: Keep = False,
    anew: Anew = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Read a folder of documents whole, and keep its collection up to date.

    Only what is new or changed is read. Stop it whenever you like: the same command goes on.
    Reads .txt, .md and any other text, .html, .pdf, .docx, .epub; says of every other file why not.

    For example:

    - `unabridged index ~/Documents/minutes`
    - `unabridged index reports --into reports-2026 --model intfloat/e5-base-v2`
    - `unabridged index contracts --model ./minilm-8192 --reader full:126`
    - `unabridged index contracts --anew`
    """
    place = places.named(into) if into else places.beside(folder)
    if anew and keep:
        raise typer.BadParameter(
            "a collection made anew cannot keep what is gone; leave out --keep."
        )
    with waiting("Loading the model", quiet=quiet):
        target = replacing.begin(place, folder, model, reader, attention) if anew else place
        collection = opening.collection_to_write(target, model, reader=reader, attention=attention)
    report = syncing.sync(collection, folder, vanished="keep" if keep else "remove", quiet=quiet)
    if anew:
        replacing.finish(place)
    wanted = opening.reader_wanted(place)
    if wanted and not quiet:
        say(f"`probe` chose another reader, {wanted}; `index --anew` reads everything by it.")
    if as_json:
        print_json(syncing.report_as_json(report, place))
    else:
        syncing.show_report(report, place)
    raise typer.Exit(PARTLY if report.failed else DONE)
