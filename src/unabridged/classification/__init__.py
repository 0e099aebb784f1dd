"""Label whole documents, and answer for every label.

train      a linear head on whole documents, its training recorded
explain    why a document got its label: passages, training documents, what is left
doubtful   training documents whose labels look wrong
"""

from __future__ import annotations

from unabridged.classification.classifier import Classifier, Prediction
from unabridged.classification.errors import ClassifierError
from unabridged.classification.explaining import Suspect, Why, doubtful, explain
from unabridged.classification.labels import read_labels
from unabridged.classification.training import Trained, train

__all__ = [
    "Classifier",
    "ClassifierError",
    "Prediction",
    "Suspect",
    "Trained",
    "Why",
    "doubtful",
    "explain",
    "read_labels",
    "train",
]
