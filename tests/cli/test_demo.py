"""The demo's documents are the same everywhere, and writing them out harms nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from unabridged.cli import demonstration, standard_library


def test_no_dangerous_module_is_imported():
    names = set(standard_library.module_names())
    assert {"json", "subprocess", "asyncio"} <= names
    assert not names & {"antigravity", "this", "idlelib", "turtledemo", "test", "__main__"}


def test_a_page_holds_documentation_and_no_values_of_this_machine(monkeypatch):
    monkeypatch.setenv("A_SECRET", "hunter2")
    page = standard_library.render("os")
    assert "rename" in page
    assert "hunter2" not in page
    assert "\nDATA\n" not in page
    assert "\nFILE\n" not in page
    assert "|" not in page.split("CLASSES")[1].split("\n")[10]


def test_a_module_of_another_platform_has_no_page():
    missing = "winreg" if sys.platform != "win32" else "termios"
    assert standard_library.render(missing) is None


def test_pages_are_written_once_and_whole(tmp_path, monkeypatch):
    names = ["bisect", "heapq", "subprocess"]
    monkeypatch.setattr(standard_library, "module_names", lambda: names)
    monkeypatch.setattr(
        standard_library, "_render_elsewhere", lambda pages, _: standard_library._main(pages)
    )
    folder = standard_library.write_all(tmp_path)
    assert sorted(path.stem for path in folder.iterdir()) == names
    monkeypatch.setattr(standard_library, "_render_elsewhere", pytest.fail)
    assert standard_library.write_all(tmp_path) == folder


def test_pages_that_could_not_be_written_leave_nothing_behind(tmp_path, monkeypatch):
    def die(*_):
        raise subprocess.TimeoutExpired("python", 1)

    monkeypatch.setattr(standard_library, "_render_elsewhere", die)
    with pytest.raises(subprocess.TimeoutExpired):
        standard_library.write_all(tmp_path / "pages")
    assert list((tmp_path / "pages").iterdir()) == []


@pytest.mark.slow
def test_pages_of_two_runs_are_equal(tmp_path):
    first, second = (standard_library.write_all(tmp_path / name) for name in ("a", "b"))
    pages = {path.name: path.read_bytes() for path in first.iterdir()}
    assert len(pages) > 150
    assert pages == {path.name: path.read_bytes() for path in second.iterdir()}


def test_demo_indexes_answers_and_says_what_to_type_next(run, model, documents, monkeypatch):
    monkeypatch.setattr(demonstration, "documents_folder", lambda: documents)
    outcome = run("demo")
    assert outcome.code == 0
    assert "3 new" in outcome.out
    for question in demonstration.QUESTIONS:
        assert question in outcome.out
    assert "unabridged search" in outcome.err
    assert run("search", "lemons").code == 0
    again = run("demo", "--json").json
    assert again["unchanged"] == 3
    assert list(again["answers"]) == list(demonstration.QUESTIONS)


def test_demo_that_cannot_write_says_what_to_do(run, home):
    home.write_text("a file where a folder should be")
    outcome = run("demo")
    assert outcome.code == 1
    assert "set UNABRIDGED_HOME" in outcome.err
