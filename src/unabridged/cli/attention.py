"""`unabridged attention`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unabridged.cli.console import print_json, waiting
from unabridged.cli.options import AsJson, Quiet

if TYPE_CHECKING:
    from unabridged.attention.protocol import Attention

__all__ = ["attention"]

Source = Annotated[
    str, typer.Argument(metavar="MODEL", help="A folder or Hub id, or all-MiniLM-L6-v2.")
]
File = Annotated[
    Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="One document.")
]
Name = Annotated[
    str, typer.Option("--attention", metavar="NAME", help="exact, favor, multipole or auto.")
]
Setting = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="One of its settings; may be repeated."),
]
Rows = Annotated[
    int, typer.Option("--rows", metavar="N", min=1, help="Queries of every head that are compared.")
]
Seed = Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Chooses these queries.")]
Plot = Annotated[
    Path | None,
    typer.Option("--plot", metavar="FILE", help="Draw it too, as .svg, .png or .pdf."),
]


def attention(
    model: Source,
    file: File,
    name: Name = "multipole",
    settings: Setting = None,
    rows: Rows = 128,
    seed: Seed = 1,
    plot: Plot = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Measure what another attention does to a model on a document, layer by layer, head by head.

    Each head is compared with exact attention on the same queries, keys and values; the vector of
    the document with the one that exact attention gives; the seconds with its seconds.

    For example:

    - `unabridged attention all-MiniLM-L6-v2 page.txt --attention favor --set features=1024`
    - `unabridged attention minilm-8k minutes.txt --plot heads.png`
    """
    # torch and the models are heavy, and `--help` must not wait for them.
    from unabridged.cli import attention_table
    from unabridged.collection.documents import read_document
    from unabridged.encoder.attention_plot import draw
    from unabridged.encoder.attention_receipts import measure_attention

    document = read_document(file, file.parent)
    try:
        chosen = _attention(name, settings or [])
        with waiting("Reading with both attentions", quiet=quiet):
            receipt = measure_attention(
                document.text, chosen, model=_default_by_name(model), rows=rows, seed=seed
            )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if plot is not None:
        draw(receipt, plot)
    if as_json:
        print_json(receipt.as_json())
    else:
        attention_table.show(receipt)


def _attention(name: str, settings: list[str]) -> Attention:
    from unabridged.attention.choices import from_settings

    return from_settings({"name": name, **dict(_setting(given) for given in settings)})


def _setting(given: str) -> tuple[str, Any]:
    """A name and what JSON makes of the value; words need no quotes."""
    name, equals, value = given.partition("=")
    if not equals:
        raise ValueError(f"--set: got {given!r}; wanted NAME=VALUE, such as features=512.")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _default_by_name(model: str) -> str | None:
    """None for the packaged default, which is no folder that a user would know."""
    from unabridged.encoder.checkpoint import DEFAULT_MODEL

    names = (DEFAULT_MODEL, DEFAULT_MODEL.rpartition("/")[2])
    return None if model in names and not Path(model).is_dir() else model
