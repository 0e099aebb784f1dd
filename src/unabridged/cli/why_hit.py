"""`unabridged why-hit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from unabridged.cli.classifiers import Document
from unabridged.cli.console import print_json, results, waiting
from unabridged.cli.options import AsJson, Quiet

__all__ = ["why_hit"]

Question = Annotated[str, typer.Argument(metavar="QUESTION", help="As it was searched for.")]
Adapted = Annotated[
    Path,
    typer.Option(
        "--model", metavar="OUT", exists=True, help="A model made by `adapt … OUT --record`."
    ),
]
Count = Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many documents.")]


def why_hit(
    question: Question,
    document: Document,
    model: Adapted,
    count: Count = 10,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Say which documents of its adaptation moved a model to score a passage as it does.

    The score is the cosine of question and passage; the document's best passage is taken. All lines
    sum to it, from the score before adaptation to the residual.

    For example: `unabridged why-hit "who pays for the roof?" minutes/may.txt --model adapted`
    """
    from unabridged.collection.documents import read_document
    from unabridged.training.hits import explain_rank

    with waiting("Taking the adaptation again", quiet=quiet):
        text = read_document(document, document.parent).text
        found = explain_rank(model, question, text)
    start, end = found.chars
    if as_json:
        print_json(
            {"document": str(document), "chars": found.chars, **found.hit.as_json(count=count)}
        )
        return
    words = " ".join(text[start:end].split())[:70]
    results().print(Text(f"[{start}:{end}] {words}"))
    results().print(Text(found.hit.table(count=count)))
