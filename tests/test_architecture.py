"""The house stands as it was drawn: what a floor loads, how long a file is, what no file names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
WRITTEN = sorted(
    path
    for folder in ("src", "tests", "benchmarks", "docs")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in {".py", ".md", ".css", ".html"} and path != Path(__file__)
)
MOST_LINES = 350
LIGHT = {
    "unabridged": {"transformers", "lancedb", "typer", "fastapi"},
    "unabridged.geometry": {"transformers", "lancedb", "typer", "fastapi"},
    "unabridged.positions": {"transformers", "lancedb", "typer", "fastapi"},
    "unabridged.cli": {"torch", "transformers", "lancedb", "pyarrow", "pypdfium2", "fastapi"},
}


def loaded_by(statement: str) -> set[str]:
    """Names of all modules in a fresh process after `statement`."""
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(("module", "heavy"), LIGHT.items(), ids=LIGHT)
def test_importing_a_floor_loads_nothing_from_above(module, heavy):
    assert not loaded_by(f"import {module}") & heavy


def test_the_test_above_would_see_a_heavy_import():
    assert "typer" in loaded_by("import unabridged.geometry, typer") & LIGHT["unabridged.geometry"]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_file_outgrows_its_room(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MOST_LINES, f"{lines} lines ask for two rooms"


def test_no_file_names_the_machine_that_it_was_written_on():
    named = {
        (path.relative_to(ROOT).as_posix(), line)
        for path in WRITTEN
        for line in path.read_text(encoding="utf-8").splitlines()
        for word in ("/work/", "/tmp/", "/root/", "/home/", "shared/data")
        if word in line
    }
    assert not named
