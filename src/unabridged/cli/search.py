"""`unabridged search`."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from unabridged.cli import opening, showing
from unabridged.cli.console import counted, print_json_lines, say, waiting
from unabridged.cli.options import AsJson, In, ModelName, Quiet

__all__ = ["search"]

Query = Annotated[str, typer.Argument(metavar="QUERY", help="What you are looking for, in words.")]
ModeName = Annotated[
    Literal["hybrid", "dense", "lexical"],
    typer.Option(help="By meaning and words together, by meaning alone, or by words alone."),
]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many documents.")]
PathGlob = Annotated[
    str | None, typer.Option("--path", metavar="GLOB", help="Only documents of such a name.")
]
Where = Annotated[
    list[str] | None,
    typer.Option("--where", metavar="KEY=VALUE", help="Only with this metadata; may be repeated."),
]
Passages = Annotated[int, typer.Option(min=1, max=3, help="Passages shown of each document.")]


def search(
    query: Query,
    place: In = None,
    mode: ModeName = "hybrid",
    limit: Limit = 5,
    path: PathGlob = None,
    where: Where = None,
    passages: Passages = 1,
    model: ModelName = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Find the documents that answer a question, and the passages that say so.

    With --json one object a line, best first; `chars` of a passage slices the text of its document.

    For example:

    - `unabridged search "who pays for the new roof?"`
    - `unabridged search "budget" --in minutes --mode lexical --path "2026/*" -n 3 --json`
    """
    _refuse_empty(query)
    metadata = dict(_pair(text) for text in where or [])
    with waiting("Loading the model", quiet=quiet):
        if mode == "lexical":
            collection = opening.collection(place)
        else:
            collection = opening.collection_with_encoder(place, model)
    hits = collection.search(query, mode=mode, limit=limit, path=path, metadata=metadata)
    if as_json:
        print_json_lines(map(showing.hit_as_json, hits))
    else:
        showing.show_hits(hits, query, passages=passages)
    if not quiet:
        say(f"{counted(hits, 'document')} found in {collection.path}")


def _refuse_empty(query: str) -> None:
    if not query.strip():
        raise typer.BadParameter("is empty; write what you are looking for.", param_hint="QUERY")


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise typer.BadParameter(f"got {text!r}, wanted KEY=VALUE.", param_hint="--where")
    return key, value
