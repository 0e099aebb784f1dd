"""`unabridged classify train` and `predict`, `unabridged suspects`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table
from rich.text import Text

from unabridged.cli import opening
from unabridged.cli.classifiers import NAME, Model, With, open_classifier, read_with
from unabridged.cli.console import DONE, PARTLY, print_json, results, say, waiting
from unabridged.cli.options import AsJson, Quiet

if TYPE_CHECKING:
    from unabridged.classification import Tuning

__all__ = ["classify", "suspects"]

classify = typer.Typer(no_args_is_help=True, help="Label whole documents by examples.")

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", exists=True, file_okay=False)]
Labels = Annotated[
    Path,
    typer.Option("--labels", exists=True, dir_okay=False, help="CSV with rows DOCUMENT,LABEL."),
]
Documents = Annotated[list[Path], typer.Argument(metavar="DOCUMENT…", exists=True, dir_okay=False)]
Into = Annotated[
    Path | None, typer.Option("--into", help=f"Where it goes. Default: FOLDER/{NAME}.")
]
Parts = Annotated[
    Literal["head", "all"],
    typer.Option("--train", help="The head alone, or the encoder's last layer and the head."),
]
Budget = Annotated[
    int, typer.Option("--budget", metavar="MB", min=1, help="Memory for --train all.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say the bytes and minutes it would take; write nothing.")
]
Count = Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many lines.")]


@classify.command("train")
def train_command(
    folder: Folder,
    labels: Labels,
    into: Into = None,
    model: Model = None,
    parts: Parts = "head",
    budget: Budget = 2000,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Learn to label documents from labelled ones; they are read whole.

    `--train all` trains the encoder's last layer with the head: slower, and each document must
    fit the memory budget whole.

    For example: `unabridged classify train contracts --labels labels.csv --dry-run`
    """
    from unabridged.classification import Tuning, read_labels, train, tune

    wanted, tuning = read_labels(labels), Tuning(budget=budget * 1_000_000)
    if dry_run:
        chosen = None if parts == "head" else tuning
        _tell_price(folder, wanted, model, chosen, quiet=quiet, as_json=as_json)
        return
    with waiting("Reading and training", quiet=quiet):
        encoder, place = opening.load_encoder(model), into or folder / NAME
        if parts == "head":
            trained = train(folder, wanted, encoder, into=place)
        else:
            trained = tune(folder, wanted, encoder, into=place, tuning=tuning)
    made = trained.classifier
    if as_json:
        print_json(
            {
                "classifier": str(made.folder),
                "classes": made.classes,
                "documents": len(made.documents),
                "training_accuracy": trained.accuracy,
                "failed": trained.failed,
            }
        )
    else:
        results().print(
            f"{len(made.documents)} documents, {len(made.classes)} classes, "
            f"{trained.accuracy:.1%} of them labelled as given; saved in {made.folder}"
        )
    for name, reason in () if quiet else trained.failed:
        say(f"Not used: {name}: {reason}")
    raise typer.Exit(PARTLY if trained.failed else DONE)


def _tell_price(
    folder: Path,
    labels: dict[str, str],
    model: str | None,
    tuning: Tuning | None,
    *,
    quiet: bool,
    as_json: bool,
) -> None:
    from unabridged.classification import plan, plan_tuning

    with waiting("Measuring", quiet=quiet):
        encoder = opening.load_encoder(model)
        price = (
            plan(folder, labels, encoder)
            if tuning is None
            else plan_tuning(folder, labels, encoder, tuning)
        )
    if as_json:
        print_json({**asdict(price), "minutes": price.minutes})
        return
    results().print(
        f"{price.documents} documents, {len(price.classes)} classes, {price.tokens:,} tokens\n"
        f"reading {price.reading:.1f} minutes, training and one `why` "
        f"{price.training.minutes:.1f} minutes\n"
        f"{price.bytes / 1e6:.1f} MB on disk, {price.training.memory / 1e6:.1f} MB of memory to "
        "explain a label"
    )
    for name, reason in () if quiet else price.failed:
        say(f"Not used: {name}: {reason}")


@classify.command("predict")
def predict_command(
    documents: Documents,
    classifier: With = None,
    model: Model = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Label documents, with the probability of every class.

    For example: `unabridged classify predict new/*.pdf --with contracts/.unabridged-classifier`
    """
    for path in documents:
        found = read_with(path, classifier, model, quiet=quiet).predict()
        if as_json:
            print_json({"document": str(path), **asdict(found)})
        else:
            share = found.probabilities[found.label]
            results().print(Text(f"{path}\t{found.label}\t{share:.1%}"))


def suspects(classifier: With = None, count: Count = 20, as_json: AsJson = False) -> None:
    """List training documents whose labels look wrong, the most doubtful first.

    For example: `unabridged suspects --with contracts/.unabridged-classifier`
    """
    from unabridged.classification import doubtful

    found = doubtful(open_classifier(classifier), limit=count)
    if as_json:
        print_json([asdict(suspect) for suspect in found])
        return
    table = Table(box=None, header_style="dim")
    for heading in ("Document", "Label", "Rather", "Support", "Loss"):
        table.add_column(heading)
    for one in found:
        names = (Text(text) for text in (one.document, one.label, one.instead))
        table.add_row(*names, f"{one.support:+.3f}", f"{one.loss:.3f}")
    results().print(table)
