"""A document asked about, as a classifier takes it."""

from __future__ import annotations

from dataclasses import dataclass

from unabridged._reading import Reading
from unabridged.attribution.batches import Inputs

__all__ = ["Question"]


@dataclass(frozen=True)
class Question:
    """One document.

    Attributes:
        reading: passages with their places, and their vectors before standardisation.
        inputs: one row of the recorded model, which gives the head's outputs for it.
    """

    reading: Reading
    inputs: Inputs
