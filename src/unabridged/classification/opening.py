"""Open a classifier of whatever kind."""

from __future__ import annotations

import json
from pathlib import Path

from unabridged.classification.classifier import DESCRIPTION, Classifier

__all__ = ["open_classifier"]


def open_classifier(folder: Path) -> Classifier:
    """A head alone, or layers and head.

    Raises:
        ClassifierError: none there, or one of another schema.
    """
    path = folder / DESCRIPTION
    if path.exists() and "layers" in json.loads(path.read_text(encoding="utf-8")):
        from unabridged.classification.tuned import TunedClassifier

        return TunedClassifier.open(folder)
    return Classifier.open(folder)
