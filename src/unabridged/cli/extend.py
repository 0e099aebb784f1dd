"""`unabridged extend`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table
from rich.text import Text

from unabridged.cli.console import print_json, results, say, waiting
from unabridged.cli.options import AsJson, Quiet

if TYPE_CHECKING:
    from unabridged.encoder.extension import Extension

__all__ = ["extend"]

Source = Annotated[
    str, typer.Argument(metavar="MODEL", help="A folder or Hub id, or all-MiniLM-L6-v2.")
]
Out = Annotated[Path, typer.Argument(metavar="OUT", help="The folder to make; must not exist.")]
MaxLength = Annotated[
    int, typer.Option("--max-length", metavar="N", help="Tokens that the new model takes.")
]
SchemeName = Annotated[
    Literal["hierarchical", "recurrent", "grouped", "interpolated", "interpolated-hierarchical"],
    typer.Option("--scheme", help="How rows are made; the last three change short texts too."),
]
Alpha = Annotated[
    float | None,
    typer.Option(
        "--alpha",
        metavar="ALPHA",
        help="Of the hierarchical schemes, in (0, 1), not 0.5; 0.4 if absent.",
    ),
]
Base = Annotated[
    int | None,
    typer.Option(
        "--base",
        metavar="ROWS",
        help="Rows to build on; all but the first and the last two if absent.",
    ),
]

ResidualAttention = Annotated[
    bool,
    typer.Option(
        "--residual-attention",
        help="Add closed gates, so that training may let layers add the scores of earlier ones.",
    ),
]


def extend(
    model: Source,
    out: Out,
    max_length: MaxLength = 8192,
    scheme: SchemeName = "hierarchical",
    alpha: Alpha = None,
    base: Base = None,
    residual_attention: ResidualAttention = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Give a BERT-type encoder more positions, and save it as a checkpoint that loads everywhere.

    Nothing is trained. Short texts keep their vectors; long ones fit. One pass over a long text
    is not better than passages for search until such a model is trained further.

    For example:

    - `unabridged extend all-MiniLM-L6-v2 minilm-8k --max-length 8192`
    - `unabridged extend intfloat/e5-base-v2 e5-4k --max-length 4096 --scheme recurrent`
    """
    # torch is heavy, and `--help` must not wait for it.
    from unabridged.encoder.extension import extend as extend_checkpoint

    options = {"max_length": max_length, "scheme": scheme, "alpha": alpha, "base": base}
    options["residual_attention"] = residual_attention
    with waiting("Extending", quiet=quiet):
        try:
            made = extend_checkpoint(model, out, **options)  # type: ignore[arg-type]
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
    if as_json:
        print_json(asdict(made))
        return
    results().print(_table(made))
    if not quiet:
        say("What was done also stands in the folder's README.md.")


def _table(made: Extension) -> Table:
    table = Table(box=None, show_header=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    table.add_row("Folder", Text(str(made.folder)))
    table.add_row("Positions", f"{made.positions_before:,} → {made.positions:,}")
    table.add_row("Scheme", ", ".join(_scheme(made)))
    if made.gates is not None:
        table.add_row("Residual", made.gates)
    table.add_row("Short inputs", f"states changed by at most {made.short_difference:.2g}")
    return table


def _scheme(made: Extension) -> list[str]:
    known = {"alpha": made.alpha, "base": made.base}
    return [made.scheme, *(f"{name} {v}" for name, v in known.items() if v is not None)]
