"""Which classifier a command means, and a document read with its encoder."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unabridged.cli import opening
from unabridged.cli.console import waiting

if TYPE_CHECKING:
    from unabridged.classification import Classifier, Prediction, Question, TokenAccount, Why
    from unabridged.encoder import LongEncoder

__all__ = ["NAME", "Document", "Model", "ReadDocument", "With", "open_classifier", "read_with"]

NAME = ".unabridged-classifier"

Document = Annotated[Path, typer.Argument(metavar="DOCUMENT", exists=True, dir_okay=False)]
With = Annotated[
    Path | None,
    typer.Option("--with", metavar="CLASSIFIER", help=f"Default: the nearest {NAME} above."),
]
Model = Annotated[str | None, typer.Option("--model", metavar="FOLDER_OR_ID")]


@dataclass(frozen=True)
class ReadDocument:
    """A document as a classifier and its encoder read it."""

    classifier: Classifier
    encoder: LongEncoder
    question: Question
    text: str

    def predict(self) -> Prediction:
        """Its label."""
        made = self.classifier
        return made.predict(made.standardised(self.question.reading.vectors))

    def tokens(self, why: Why) -> TokenAccount | None:
        """The lead token by token; None where the encoder's pooling is no sum over tokens."""
        from unabridged.classification import TunedClassifier, token_account
        from unabridged.encoder import LongEncoder, can_score_tokens, token_scores

        made, asked = self.classifier, self.question
        if isinstance(made, TunedClassifier):
            return token_account(made, why, asked.reading, partial(made.token_scores, asked))
        if not isinstance(self.encoder, LongEncoder) or not can_score_tokens(self.encoder):
            return None
        scorer = partial(token_scores, self.encoder, self.text)
        return token_account(made, why, asked.reading, scorer)


def open_classifier(place: Path | None) -> Classifier:
    """The classifier named, or the nearest one above the working folder."""
    from unabridged import classification
    from unabridged.classification import ClassifierError

    if place is not None:
        return classification.open_classifier(place)
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / NAME).is_dir():
            return classification.open_classifier(folder / NAME)
    raise ClassifierError(
        f"no {NAME} in {here} or above; name one (--with FOLDER/{NAME}), or train one: "
        "unabridged classify train FOLDER --labels labels.csv"
    )


def read_with(path: Path, place: Path | None, model: str | None, *, quiet: bool) -> ReadDocument:
    """Read a document with the encoder that a classifier was trained with."""
    from unabridged.classification import TunedClassifier
    from unabridged.collection.documents import read_document

    made = open_classifier(place)
    with waiting("Reading", quiet=quiet):
        encoder = opening.load_encoder(model)
        made = made.with_encoder(encoder)
        text = read_document(path, path.parent).text
        if isinstance(made, TunedClassifier):
            return ReadDocument(made, encoder, made.ask(text), text)
        return ReadDocument(made, encoder, made.question(encoder.read(text)), text)
