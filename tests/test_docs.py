"""What the pages say is true: their code runs, and nothing public goes without a word."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import unabridged
from unabridged.cli.reference import commands, updated

ROOT = Path(__file__).parents[1]
COMMANDS = ROOT / "docs" / "guides" / "command-line.md"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks() -> list[object]:
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in PYTHON.finditer(text):
            line = text.count("\n", 0, match.start()) + 2
            name = f"{page.relative_to(ROOT).as_posix()}:{line}"
            found.append(pytest.param(page, line, match[1], id=name))
    return found


@pytest.mark.parametrize(("page", "line", "code"), blocks())
def test_code_in_the_docs_runs(page, line, code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # Blank lines before the code make a traceback name the line of the page.
    exec(compile("\n" * (line - 1) + code, str(page), "exec"), {"__name__": "__main__"})


def test_the_reference_of_commands_is_up_to_date():
    page = COMMANDS.read_text(encoding="utf-8")
    assert updated(page) == page, (
        "run: python -m unabridged.cli.reference docs/guides/command-line.md"
    )


@pytest.mark.parametrize(("name", "command"), commands().items(), ids=commands())
def test_every_command_has_help_and_an_example(name, command):
    assert f"`unabridged {name}" in command.__doc__
    assert f"### {name}\n" in COMMANDS.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [n for n in unabridged.__all__ if not n.startswith("__")])
def test_every_public_name_is_in_the_docs(name):
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert re.search(rf"`[^`\n]*\b{name}\b[^`\n]*`|^[^\n]*\bimport\b[^\n]*\b{name}\b", text, re.M)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target
