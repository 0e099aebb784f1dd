"""`unabridged probe`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unabridged.cli.console import DONE, INTERRUPTED, PARTLY, print_json, say, waiting
from unabridged.cli.options import AsJson, Into, Quiet

__all__ = ["probe"]

Folder = Annotated[
    Path,
    typer.Argument(
        metavar="FOLDER",
        exists=True,
        file_okay=False,
        help="With documents, or the folder of a collection.",
    ),
]
Base = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="FOLDER_OR_ID",
        help="The model that reads, and is made longer. Default: that of the collection, "
        "else all-MiniLM-L6-v2.",
    ),
]
Minutes = Annotated[
    float,
    typer.Option("--minutes", metavar="M", min=0, help="No round begins that would take longer."),
]
Documents = Annotated[
    int | None,
    typer.Option("--documents", metavar="N", min=1, help="So many at most, however long it takes."),
]
Longest = Annotated[
    int,
    typer.Option("--longest", metavar="TOKENS", min=256, help="Read of a document at most."),
]
Seed = Annotated[
    int, typer.Option("--seed", metavar="N", min=0, help="Chooses documents, sentences, needles.")
]
Plot = Annotated[
    Path | None,
    typer.Option("--plot", metavar="FILE", help="Draw it too, as .svg, .png or .pdf."),
]


def probe(
    folder: Folder,
    into: Into = None,
    model: Base = None,
    minutes: Minutes = 4.0,
    documents: Documents = None,
    longest: Longest = 4096,
    seed: Seed = 0,
    plot: Plot = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Find out which reader finds most in your own long documents, and keep it as the default.

    Every reader reads the same documents and is asked for titles, for sentences, and for facts
    planted at every depth. Another reader than the usual one is chosen only where it is clearly
    better. Nothing that is indexed is touched: a later `index` uses the choice.

    For example:

    - `unabridged probe ~/Documents/minutes`
    - `unabridged probe reports --minutes 15 --seed 1 --plot readers.svg`
    """
    # torch and the models are heavy, and `--help` must not wait for them.
    from unabridged.cli import probe_table, probing
    from unabridged.probing.plot import draw

    with waiting("Loading the model and counting tokens", quiet=quiet):
        trial = probing.prepare_trial(folder, into, model, seed=seed, longest=longest)
    if trial.refusal:
        probe_table.show_refusal(trial, as_json=as_json)
        raise typer.Exit(PARTLY if trial.gathered.failed else DONE)
    outcome, is_whole = probing.hold_trial(trial, minutes, documents, quiet=quiet)
    if outcome is None:
        say("Interrupted before every reader had read something; nothing was written.")
        raise typer.Exit(INTERRUPTED)
    settings = probing.keep(trial, outcome) if is_whole else None
    if plot is not None:
        draw(outcome, plot)
    if as_json:
        print_json(probe_table.as_json(trial, outcome, settings))
    else:
        probe_table.show(outcome)
    if not quiet:
        probe_table.explain(trial, settings)
    if settings is None:
        raise typer.Exit(INTERRUPTED)
    raise typer.Exit(PARTLY if trial.gathered.failed else DONE)
