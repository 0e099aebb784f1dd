"""`unabridged search` finds, shows where, and speaks JSON."""

from __future__ import annotations

import pytest


@pytest.fixture
def indexed(run, model, documents):
    run("index", documents)
    return documents


@pytest.mark.parametrize("mode", ["hybrid", "dense", "lexical"])
def test_the_document_that_answers_comes_first(run, indexed, mode):
    outcome = run("search", "ships on the sea", "--mode", mode)
    assert outcome.code == 0
    assert outcome.out.startswith("1. ships.md")
    assert f"{indexed}/ships.md:1" in outcome.out
    assert "Ships sail over the sea" in outcome.out


def test_the_place_is_as_short_as_it_can_be_typed_from_here(run, indexed, monkeypatch):
    monkeypatch.chdir(indexed / "deep")
    assert "\n   clocks.txt:1 " in run("search", "clocks").out


def test_offsets_of_every_passage_slice_the_file(run, indexed):
    hits = run("search", "lemon trees", "--json", "-n", 9).json_lines
    assert len(hits) == 3
    for hit in hits:
        text = (indexed / hit["document"]).read_text()
        for passage in hit["passages"]:
            start, end = passage["chars"]
            assert text[start:end] == passage["text"]
            assert text[:start].count("\n") + 1 == passage["line"]


def test_filters_by_name_and_by_metadata(run, indexed):
    assert [
        hit["document"] for hit in run("search", "the", "--path", "deep/*", "--json").json_lines
    ] == ["deep/clocks.txt"]
    assert len(run("search", "the", "--where", "encoding=utf-8", "--json").json_lines) == 3
    assert run("search", "the", "--where", "encoding=cp1252", "--json").out == ""


@pytest.mark.parametrize(
    "arguments",
    [[""], ["  \n"], ["x", "--where", "title"], ["x", "--mode", "both"], ["x", "-n", 0]],
)
def test_what_cannot_be_asked_is_wrong_usage(run, indexed, arguments):
    assert run("search", *arguments).code == 2


def test_a_long_query_is_answered(run, indexed):
    assert run("search", "sea " * 25_000).code == 0


def test_an_excerpt_begins_at_the_words_of_the_query(run, model, documents):
    lines = [f"line {number}" for number in range(40)]
    model._passage = 200
    (documents / "long.txt").write_text("\n".join([*lines[:30], "the zebra", *lines[30:]]))
    run("index", documents)
    out = run("search", "zebra").out
    assert "the zebra" in out
    assert "line 0\n" not in out
    assert "…" in out


def test_remarks_can_be_silenced(run, indexed):
    assert "3 documents found" in run("search", "the").err
    assert run("search", "the", "--quiet").err == ""


def test_nothing_found_is_no_error(run, indexed):
    outcome = run("search", "xylophone", "--mode", "lexical")
    assert (outcome.code, outcome.out) == (0, "")
    assert "0 documents found" in outcome.err
