"""What can go wrong with a training that is not a bad argument."""

from __future__ import annotations

from unabridged._errors import UnabridgedError

__all__ = ["TrainingError"]


class TrainingError(UnabridgedError):
    """A training that cannot go on: other settings than before, or a loss that is no number."""
