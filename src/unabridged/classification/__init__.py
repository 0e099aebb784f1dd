"""Label whole documents, and answer for every label.

train      a linear head on whole documents, its training recorded
explain    why a document got its label: passages, training documents, what is left
doubtful   training documents whose labels look wrong
"""

from __future__ import annotations

from unabridged.classification.classifier import Classifier, Prediction
from unabridged.classification.doubts import Suspect, doubtful
from unabridged.classification.errors import ClassifierError
from unabridged.classification.explaining import Order, Taught, Why, explain
from unabridged.classification.labels import read_labels
from unabridged.classification.planning import Plan, plan
from unabridged.classification.tokens import TokenAccount, TokenShare, token_account, words_of
from unabridged.classification.training import Trained, fit, train

__all__ = [
    "Classifier",
    "ClassifierError",
    "Order",
    "Plan",
    "Prediction",
    "Suspect",
    "Taught",
    "TokenAccount",
    "TokenShare",
    "Trained",
    "Why",
    "doubtful",
    "explain",
    "fit",
    "plan",
    "read_labels",
    "token_account",
    "train",
    "words_of",
]
