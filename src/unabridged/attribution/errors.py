"""The one error of this room that is not a plain bad argument."""

from __future__ import annotations

from unabridged._errors import UnabridgedError

__all__ = ["RecordingError"]


class RecordingError(UnabridgedError):
    """A recording that is missing, damaged, or of another model, data or loss than those given."""
