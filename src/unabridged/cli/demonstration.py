"""What the demo asks, and how its first and its later runs find their documents."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from unabridged._errors import DocumentError
from unabridged.cli import places, standard_library

__all__ = ["QUESTIONS", "collection_folder", "documents_folder"]

QUESTIONS: Mapping[str, str] = {
    "How do I run another program and kill it after a timeout?": "subprocess.txt",
    "Which function suggests the closest matches for a misspelled word?": "difflib.txt",
    "How can I share one lock between several processes?": "multiprocessing.txt",
}
"""Questions in plain words, each with a document that answers it."""


def documents_folder() -> Path:
    """The documentation of this Python's standard library as text files, written if need be.

    Raises:
        DocumentError: it could not be written.
    """
    folder = places.home() / "demo" / "documents"
    try:
        return standard_library.write_all(folder)
    except (OSError, subprocess.SubprocessError) as error:
        raise DocumentError(
            f"demo: the documentation of Python could not be written to {folder} ({error}); "
            "make room there, or set UNABRIDGED_HOME to a folder that you may write."
        ) from error


def collection_folder() -> Path:
    """One collection a version of Python, because their documentation differs."""
    version = ".".join(map(str, sys.version_info[:3]))
    return places.home() / "demo" / f"collection-{version}"
