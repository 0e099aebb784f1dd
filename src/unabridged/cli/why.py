"""`unabridged why`: the passages, words and training documents behind a label."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.text import Text

from unabridged.cli.classifiers import Document, Model, With, read_with
from unabridged.cli.console import print_json, results
from unabridged.cli.options import AsJson, Quiet

if TYPE_CHECKING:
    from unabridged.classification import TokenAccount, Why

__all__ = ["why"]

Count = Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many lines a part.")]
By = Annotated[
    Literal["contribution", "alike", "removal"],
    typer.Option(
        "--by",
        help="Order of training documents after the most alike one: contribution (what each "
        "added), alike (how alike it is), removal (what leaving it out would do).",
    ),
]
Against = Annotated[
    str | None,
    typer.Option("--against", metavar="LABEL", help="Compare with it. Default: the runner-up."),
]


def why(
    document: Document,
    classifier: With = None,
    count: Count = 5,
    by: By = "contribution",
    against: Against = None,
    model: Model = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Say why a document got its label: which passages and words, which training documents.

    All accounts sum to the lead of the label over the runner-up. The training document most like
    this one stands first, and is marked where it is the same text, or nearly.

    For example: `unabridged why contracts/lease.pdf --by removal --against insurance`
    """
    from unabridged.classification import explain

    read = read_with(document, classifier, model, quiet=quiet)
    found = explain(read.classifier, read.question, count=count, by=by, against=against)
    tokens = read.tokens(found)
    if as_json:
        print_json(_as_json(document, found, tokens))
        return
    _show_passages(found, read.text, count)
    if tokens is not None:
        _show_words(tokens, read.text, count)
    _show_training(found)


def _as_json(document: Path, found: Why, tokens: TokenAccount | None) -> dict[str, Any]:
    return {
        "document": str(document),
        **asdict(found),
        "taught": [{**asdict(one), "twin": one.twin} for one in found.taught],
        "residual": found.residual,
        "tokens": None if tokens is None else asdict(tokens),
    }


def _show_passages(found: Why, text: str, count: int) -> None:
    out, prediction = results(), found.prediction
    share = prediction.probabilities[prediction.label]
    out.print(Text(f"{prediction.label} ({share:.1%}); compared with {found.against}"))
    out.print(f"lead {found.lead:+.6f} = bias {found.bias:+.6f} + passages:")
    order = sorted(found.passages, key=lambda passage: -abs(passage.amount))
    for passage in order[:count]:
        start, end = passage.chars
        words = " ".join(text[start:end].split())[:70]
        out.print(Text(f"{passage.amount:+.6f}  [{start}:{end}] {words}"))
    if order[count:]:
        rest = sum(passage.amount for passage in order[count:])
        out.print(f"{rest:+.6f}  {len(order) - count} other passages")


def _show_words(tokens: TokenAccount, text: str, count: int) -> None:
    from unabridged.classification import words_of

    out, lead = results(), tokens.bias + tokens.special + tokens.rounding
    words = sorted(words_of(tokens.tokens, text), key=lambda word: -abs(word.amount))
    lead += sum(word.amount for word in words)
    out.print(f"lead {lead:+.6f} = bias {tokens.bias:+.6f} + words:")
    for word in words[:count]:
        start, end = word.chars
        out.print(Text(f"{word.amount:+.6f}  [{start}:{end}] {text[start:end]}"))
    if words[count:]:
        rest = sum(word.amount for word in words[count:])
        out.print(f"{rest:+.6f}  {len(words) - count} other words")
    out.print(f"{tokens.special:+.6f}  the model's special tokens")
    out.print(f"{tokens.rounding:+.1e}  rounding")


def _show_training(found: Why) -> None:
    out = results()
    out.print(f"lead {found.lead:+.6f} = what training made it:")
    first, last = found.lines[0], len(found.taught) + 1
    out.print(Text(f"{first.amount:+.6f}  {first.label}"))
    for one in found.taught:
        same = "the same text, or nearly; " if one.twin else ""
        gone = "" if one.without is None else f"; without it the lead is {one.without:+.4f}"
        note = f"({same}labelled {one.label}, alike {one.alike:.3f}{gone})"
        out.print(Text(f"{one.amount:+.6f}  {one.document}  {note}"))
    for line in found.lines[last:-1]:
        out.print(Text(f"{line.amount:+.6f}  {line.label}"))
    out.print(f"{found.residual:+.1e}  residual")
