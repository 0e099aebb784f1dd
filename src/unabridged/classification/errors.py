"""The error of this room."""

from __future__ import annotations

from unabridged._errors import UnabridgedError

__all__ = ["ClassifierError"]


class ClassifierError(UnabridgedError):
    """A classifier that cannot be trained, opened or used, or a file of labels that cannot be."""
