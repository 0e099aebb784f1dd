"""`unabridged list`, `show`, `remove`."""

from __future__ import annotations

import pytest

import files


@pytest.fixture
def indexed(run, model, documents):
    (documents / "report.pdf").write_bytes(files.pdf(["First page.", "", "Third page."], title="R"))
    run("index", documents)
    return documents


def test_list_names_every_document(run, indexed):
    names = ["deep/clocks.txt", "lemons.txt", "report.pdf", "ships.md"]
    outcome = run("list")
    assert [line.split()[0] for line in outcome.out.splitlines()[1:]] == names
    assert [line["id"] for line in run("list", "--json").json_lines] == names
    assert "4 documents" in outcome.err


def test_list_show_and_remove_need_no_model(run, indexed, model):
    model.asked.clear()
    run("list")
    run("show", "ships.md")
    run("remove", "ships.md")
    assert model.asked == []


def test_show_gives_the_facts(run, indexed):
    out = run("show", "report.pdf").out
    for fact in ("application/pdf", "title", "pages_without_text", "100.0%"):
        assert fact in out


def test_show_gives_the_text_exactly(run, indexed):
    assert run("show", "ships.md", "--part", "text").out == (indexed / "ships.md").read_text()


def test_show_gives_passages_with_their_pages(run, indexed):
    found = run("show", "report.pdf", "--part", "passages", "--json").json_lines
    text = run("show", "report.pdf", "--part", "text", "--json").json["text"]
    assert found[0]["page"] == 1
    assert all(text[slice(*passage["chars"])] == passage["text"] for passage in found)
    assert "page 1" in run("show", "report.pdf", "--part", "passages").out


def test_show_of_an_unknown_document_is_an_error(run, indexed):
    outcome = run("show", "nothing.txt")
    assert (outcome.code, outcome.out) == (1, "")
    assert "nothing.txt" in outcome.err


def test_remove_takes_all_or_none(run, indexed):
    assert run("remove", "ships.md", "nothing.txt").code == 1
    assert len(run("list", "--json").json_lines) == 4
    assert run("remove", "ships.md", "report.pdf", "--json").json["removed"] == [
        "ships.md",
        "report.pdf",
    ]
    assert len(run("list", "--json").json_lines) == 2
    assert (indexed / "ships.md").exists()
