"""`unabridged list, show, remove`."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from unabridged.cli import opening, showing
from unabridged.cli.console import counted, print_json, print_json_lines, results, say
from unabridged.cli.options import AsJson, In, Quiet

__all__ = ["list_documents", "remove", "show"]

Id = Annotated[str, typer.Argument(metavar="DOCUMENT", help="An id, as `list` prints it.")]
Ids = Annotated[
    list[str], typer.Argument(metavar="DOCUMENT...", help="Ids, as `list` prints them.")
]
Part = Annotated[
    Literal["facts", "text", "passages"],
    typer.Option(help="What is known of it, its whole text, or its passages with their places."),
]


def list_documents(place: In = None, quiet: Quiet = False, as_json: AsJson = False) -> None:
    """List the documents of a collection, and how much of each was read.

    With --json one object a line.

    For example:

    - `unabridged list`
    - `unabridged list --in minutes --json`
    """
    collection = opening.collection(place)
    summaries = collection.list()
    if as_json:
        print_json_lines(map(showing.summary_as_json, summaries))
    else:
        showing.show_summaries(summaries)
    if not quiet:
        say(f"{counted(summaries, 'document')} in {collection.path}")


def show(document: Id, place: In = None, part: Part = "facts", as_json: AsJson = False) -> None:
    """Show one document: what is known of it, its text, or its passages.

    For example:

    - `unabridged show 2026/may.txt`
    - `unabridged show report.pdf --part passages --json`
    """
    collection = opening.collection(place)
    found = collection.get(document)
    if part == "passages":
        passages = collection.passages(document)
        if as_json:
            print_json_lines(map(showing.passage_as_json, passages))
        else:
            showing.show_passages(passages)
    elif as_json:
        text = {"text": found.text} if part == "text" else {}
        facts = showing.summary_as_json(found.summary)
        print_json({**facts, "page_starts": found.page_starts, **text})
    elif part == "text":
        typer.echo(found.text, nl=False)
    else:
        showing.show_facts(found)


def remove(documents: Ids, place: In = None, quiet: Quiet = False, as_json: AsJson = False) -> None:
    """Remove documents from a collection; files are never touched.

    All of them are removed, or, if one is not there, none.

    For example:

    - `unabridged remove 2025/may.txt 2025/june.txt --in minutes`
    """
    collection = opening.collection(place)
    removed = collection.remove(documents)
    if as_json:
        print_json({"collection": str(collection.path), "removed": removed})
    else:
        count = counted(removed, "document")
        results().print(f"Removed {count} from {collection.path}", markup=False)
    if not quiet:
        say("The next `index` of their folder brings back those whose files are still there.")
