"""The documentation of the running Python's standard library, as text files.

Run as a program of its own (`python standard_library.py FOLDER`), because to document a module
pydoc imports it: in a process of its own nothing that a module does on import can reach ours, and
a bare environment keeps the user's variables, which `os` documents, out of the text.
This file imports the standard library only.
"""

from __future__ import annotations

import contextlib
import io
import os
import pydoc
import re
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

__all__ = ["render", "write_all"]

# These open a browser, print a poem, are tests, or want a windowing system that may not be there.
LEFT_OUT = frozenset(
    {"antigravity", "idlelib", "lib2to3", "test", "this", "tkinter", "turtle", "turtledemo"}
)

# The sections that show values of this machine and not documentation, and addresses of objects.
VALUES = re.compile(r"^(FILE|DATA)\n(?:    .*\n|\n)*", re.MULTILINE)
ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
# pydoc draws a line beside the body of a class.
RULES = re.compile(r"^[ |]+", re.MULTILINE)
SECONDS = 300


def write_all(folder: Path) -> Path:
    """Write one text file a module, unless they are there already.

    Args:
        folder: gets a subfolder named after the version of Python.

    Returns:
        The subfolder; it is either complete or not there.
    """
    version = ".".join(map(str, sys.version_info[:3]))
    target = folder / f"python-{version}"
    if target.is_dir():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as workshop:
        pages = Path(workshop) / "pages"
        pages.mkdir()
        _render_elsewhere(pages, workshop)
        pages.rename(target)
    return target


def _render_elsewhere(pages: Path, workshop: str) -> None:
    kept = {name: os.environ[name] for name in ("SYSTEMROOT",) if name in os.environ}
    subprocess.run(
        [sys.executable, "-s", "-P", "-W", "ignore", __file__, str(pages)],
        env={**kept, "PYTHONHASHSEED": "0", "PYTHONUTF8": "1"},
        cwd=workshop,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=SECONDS,
        check=True,
    )


def render(name: str) -> str | None:
    """The page of one module as plain text, or None where it cannot be imported here.

    >>> render("bisect").splitlines()[0]
    'Python Library Documentation: module bisect'
    """
    silence = io.StringIO()
    with contextlib.redirect_stdout(silence), contextlib.redirect_stderr(silence):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                page = pydoc.plain(pydoc.render_doc(name))
        # Modules for other platforms raise what they like, sys.exit included, when imported here.
        except (Exception, SystemExit):
            return None
    page = ADDRESS.sub("", VALUES.sub("", f"{page.rstrip()}\n"))
    page = RULES.sub(lambda rules: rules[0].replace("|", " "), page)
    return f"{page.rstrip()}\n"


def module_names() -> list[str]:
    """Public modules of the standard library that are safe to import."""
    return sorted(
        name
        for name in sys.stdlib_module_names
        if not name.startswith("_") and name not in LEFT_OUT
    )


def _main(folder: Path) -> None:
    for name in module_names():
        if page := render(name):
            (folder / f"{name}.txt").write_text(page, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
