"""`unabridged classify train` and `predict`, `unabridged why`, `unabridged suspects`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from unabridged.cli import opening
from unabridged.cli.console import DONE, PARTLY, print_json, results, say, waiting
from unabridged.cli.options import AsJson, Quiet

if TYPE_CHECKING:
    from unabridged._reading import Reading
    from unabridged.classification import Classifier, Why

__all__ = ["classify", "suspects", "why"]

NAME = ".unabridged-classifier"

classify = typer.Typer(no_args_is_help=True, help="Label whole documents by examples.")

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", exists=True, file_okay=False)]
Labels = Annotated[
    Path,
    typer.Option("--labels", exists=True, dir_okay=False, help="CSV with rows DOCUMENT,LABEL."),
]
Document = Annotated[Path, typer.Argument(metavar="DOCUMENT", exists=True, dir_okay=False)]
Documents = Annotated[list[Path], typer.Argument(metavar="DOCUMENT…", exists=True, dir_okay=False)]
Into = Annotated[
    Path | None, typer.Option("--into", help=f"Where it goes. Default: FOLDER/{NAME}.")
]
With = Annotated[
    Path | None,
    typer.Option("--with", metavar="CLASSIFIER", help=f"Default: the nearest {NAME} above."),
]
Model = Annotated[str | None, typer.Option("--model", metavar="FOLDER_OR_ID")]
Count = Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many lines.")]


@classify.command("train")
def train_command(
    folder: Folder,
    labels: Labels,
    into: Into = None,
    model: Model = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Learn to label documents from labelled ones; they are read whole.

    For example: `unabridged classify train contracts --labels labels.csv`
    """
    from unabridged.classification import read_labels, train

    wanted = read_labels(labels)
    with waiting("Reading and training", quiet=quiet):
        encoder = opening.load_encoder(model)
        trained = train(folder, wanted, encoder, into=into or folder / NAME)
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
        made, reading, _ = _read(path, classifier, model, quiet=quiet)
        found = made.predict(made.standardised(reading.vectors))
        if as_json:
            print_json({"document": str(path), **asdict(found)})
        else:
            share = found.probabilities[found.label]
            results().print(Text(f"{path}\t{found.label}\t{share:.1%}"))


def why(
    document: Document,
    classifier: With = None,
    count: Count = 5,
    model: Model = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Say why a document got its label: which passages, which training documents, what is left.

    Both accounts sum to the lead of the label over the runner-up.

    For example: `unabridged why contracts/lease.pdf`
    """
    from unabridged.classification import explain

    made, reading, text = _read(document, classifier, model, quiet=quiet)
    found = explain(made, reading, count=count)
    if as_json:
        print_json({"document": str(document), **asdict(found), "residual": found.residual})
    else:
        _show(found, text, count)


def suspects(classifier: With = None, count: Count = 20, as_json: AsJson = False) -> None:
    """List training documents whose labels look wrong, the most doubtful first.

    For example: `unabridged suspects --with contracts/.unabridged-classifier`
    """
    from unabridged.classification import doubtful

    found = doubtful(_open(classifier), limit=count)
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


def _open(place: Path | None) -> Classifier:
    from unabridged.classification import Classifier, ClassifierError

    if place is not None:
        return Classifier.open(place)
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / NAME).is_dir():
            return Classifier.open(folder / NAME)
    raise ClassifierError(
        f"no {NAME} in {here} or above; name one (--with FOLDER/{NAME}), or train one: "
        "unabridged classify train FOLDER --labels labels.csv"
    )


def _read(
    path: Path, place: Path | None, model: str | None, *, quiet: bool
) -> tuple[Classifier, Reading, str]:
    from unabridged.collection.documents import read_document

    made = _open(place)
    with waiting("Reading", quiet=quiet):
        encoder = opening.load_encoder(model)
        made.check_encoder(encoder.fingerprint)
        text = read_document(path, path.parent).text
        return made, encoder.read(text), text


def _show(found: Why, text: str, count: int) -> None:
    out, prediction = results(), found.prediction
    share = prediction.probabilities[prediction.label]
    out.print(Text(f"{prediction.label} ({share:.1%}); runner-up {prediction.runner_up}"))
    out.print(f"lead {found.lead:+.6f} = bias {found.bias:+.6f} + passages:")
    order = sorted(found.passages, key=lambda passage: -abs(passage.amount))
    for passage in order[:count]:
        start, end = passage.chars
        words = " ".join(text[start:end].split())[:70]
        out.print(Text(f"{passage.amount:+.6f}  [{start}:{end}] {words}"))
    rest = sum(passage.amount for passage in order[count:])
    out.print(f"{rest:+.6f}  {max(0, len(order) - count)} other passages")
    out.print(f"lead {found.lead:+.6f} = what training made it:")
    for entry in found.entries[:-1]:
        out.print(Text(f"{entry.amount:+.6f}  {entry.label}"))
    out.print(f"{found.residual:+.1e}  residual")
