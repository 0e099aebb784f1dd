"""Where a collection lies, so that nobody has to say it twice.

`--into` and `--in` take a name or a path. A path has a slash or backslash in it, begins with `.` or
`~`, or is a folder that exists; anything else is a name, and lies under `home() / "collections"`.

Without it, `index FOLDER` writes `FOLDER/.unabridged`, and the other commands take the first of:

1. the environment variable UNABRIDGED_COLLECTION,
2. `.unabridged` in the working folder or the nearest folder above it,
3. the collection that `index` or `demo` opened last.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

from unabridged._errors import CollectionError

__all__ = ["FOLDER_NAME", "MANIFEST", "beside", "existing", "home", "named", "remember"]

FOLDER_NAME = ".unabridged"
MANIFEST = "collection.json"
LAST = "last-collection"


def home() -> Path:
    """The folder for what belongs to the user and to no other folder.

    UNABRIDGED_HOME where set, else where the platform keeps the data of programs.
    """
    if folder := os.environ.get("UNABRIDGED_HOME"):
        return Path(folder).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local") / "unabridged"
    if sys.platform == "darwin":
        return Path.home() / "Library/Application Support/unabridged"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "unabridged"


def named(place: str) -> Path:
    """The folder that a name or a path stands for.

    >>> named("./minutes"), named("~/minutes") == Path.home() / "minutes"
    (PosixPath('minutes'), True)
    >>> named("minutes") == home() / "collections" / "minutes"
    True
    """
    path = Path(place).expanduser()
    is_path = place.startswith((".", "~")) or "/" in place or "\\" in place or path.is_dir()
    return path if is_path else home() / "collections" / place


def beside(source: Path) -> Path:
    """Where `index` puts the collection of a folder, or of a lone file, unless told otherwise."""
    return (source if source.is_dir() else source.parent) / FOLDER_NAME


def existing(place: str | None) -> Path:
    """The collection that a command means.

    Args:
        place: what `--in` says, or None for the obvious one.

    Raises:
        CollectionError: there is none.
    """
    if place is None:
        return _obvious()
    folder = named(place)
    if not (folder / MANIFEST).exists():
        raise CollectionError(
            f"--in {place}: {folder} holds no collection; "
            f"check the name, or make it with `unabridged index FOLDER --into {place}`."
        )
    return folder


def remember(folder: Path) -> None:
    """Make a collection the one that commands mean when nothing else says which.

    Where the user's own folder cannot be written, nothing is lost but this convenience.
    """
    with suppress(OSError):
        home().mkdir(parents=True, exist_ok=True)
        (home() / LAST).write_text(str(folder.resolve()), encoding="utf-8")


def _obvious() -> Path:
    if place := os.environ.get("UNABRIDGED_COLLECTION"):
        return existing(place)
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / FOLDER_NAME / MANIFEST).exists():
            return folder / FOLDER_NAME
    if (last := home() / LAST).exists():
        folder = Path(last.read_text(encoding="utf-8"))
        if (folder / MANIFEST).exists():
            return folder
    raise CollectionError(
        "there is no collection here or above, and none was made before; "
        "make one with `unabridged index FOLDER`, or say which with --in NAME_OR_PATH."
    )
