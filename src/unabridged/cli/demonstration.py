"""What the demo asks, and how its first and its later runs find their documents."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from unabridged.cli import places, standard_library

__all__ = ["QUESTIONS", "collection_folder", "documents_folder"]

QUESTIONS: Mapping[str, str] = {
    "How do I stop a program that I started and that takes too long?": "subprocess.txt",
    "Which function suggests the closest matches for a misspelled word?": "difflib.txt",
    "How can I share one lock between several processes?": "multiprocessing.txt",
}
"""Questions in plain words, each with a document that answers it."""


def documents_folder() -> Path:
    """The documentation of this Python's standard library as text files, written if need be."""
    return standard_library.write_all(places.home() / "demo" / "documents")


def collection_folder() -> Path:
    """One collection a version of Python, because their documentation differs."""
    version = ".".join(map(str, sys.version_info[:3]))
    return places.home() / "demo" / f"collection-{version}"
