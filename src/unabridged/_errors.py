"""The errors that users meet; each says what, got, wanted, and what to do.

Bad arguments raise the built-in `ValueError` or `TypeError`, as users of numpy and torch expect;
what is the world's fault (a file, a model, a collection) raises a child of `UnabridgedError`.
"""

from __future__ import annotations

__all__ = ["CollectionError", "DocumentError", "ModelError", "UnabridgedError"]


class UnabridgedError(Exception):
    """Base of every error that is not a plain bad argument."""


class ModelError(UnabridgedError):
    """A checkpoint that is missing, damaged, or of a kind that cannot be read."""


class DocumentError(UnabridgedError):
    """A document whose text cannot be had; the message is its reason, fit for a report."""


class CollectionError(UnabridgedError):
    """A collection that cannot be opened, written, or searched with this pipeline."""
