"""Options that several commands share, each written once."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["AsJson", "AttentionChoice", "In", "Into", "ModelName", "Quiet", "ReaderChoice"]

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text for people.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no remarks.")]
In = Annotated[
    str | None,
    typer.Option(
        "--in",
        metavar="NAME_OR_PATH",
        help="The collection. Default: UNABRIDGED_COLLECTION, else the nearest .unabridged "
        "here or above, else the one opened last.",
    ),
]
Into = Annotated[
    str | None,
    typer.Option(
        "--into",
        metavar="NAME_OR_PATH",
        help="Where the collection goes: a name, or a path (with a slash). "
        "Default: FOLDER/.unabridged.",
    ),
]
ModelName = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="FOLDER_OR_ID",
        help="A model folder or Hub id. Default: the one that the collection was made with, "
        "else all-MiniLM-L6-v2.",
    ),
]
ReaderChoice = Annotated[
    str | None,
    typer.Option(
        "--reader",
        metavar="NAME[:TOKENS]",
        help="chunks, windows, full or truncate, with the tokens of a passage if you like: "
        "full:126 is one pass over the whole document, pooled by passages of 126. "
        "Default: the one that the collection was made with, else chunks.",
    ),
]
AttentionChoice = Annotated[
    str | None,
    typer.Option(
        "--attention",
        metavar="NAME",
        help="How attention is computed: exact, or multipole for very long documents read by "
        "--reader full. Default: PyTorch's fused attention, which is exact.",
    ),
]
