"""Label whole documents, and answer for every label.

train      a linear head on whole documents, its training recorded
tune       the same, together with the last layers of the encoder
explain    why a document got its label: passages, training documents, what is left
doubtful   training documents whose labels look wrong
"""

from __future__ import annotations

from unabridged.classification.classifier import Classifier, Prediction
from unabridged.classification.doubts import Suspect, doubtful
from unabridged.classification.errors import ClassifierError
from unabridged.classification.explaining import Order, Taught, Why, explain
from unabridged.classification.labels import read_labels
from unabridged.classification.opening import open_classifier
from unabridged.classification.planning import Plan, plan, plan_tuning
from unabridged.classification.question import Question
from unabridged.classification.tokens import TokenAccount, TokenShare, token_account, words_of
from unabridged.classification.training import Trained, fit, train
from unabridged.classification.tuned import TunedClassifier
from unabridged.classification.tuning import Tuning, tune

__all__ = [
    "Classifier",
    "ClassifierError",
    "Order",
    "Plan",
    "Prediction",
    "Question",
    "Suspect",
    "Taught",
    "TokenAccount",
    "TokenShare",
    "Trained",
    "TunedClassifier",
    "Tuning",
    "Why",
    "doubtful",
    "explain",
    "fit",
    "open_classifier",
    "plan",
    "plan_tuning",
    "read_labels",
    "token_account",
    "train",
    "tune",
    "words_of",
]
