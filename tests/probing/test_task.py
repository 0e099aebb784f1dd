"""Every query has one answer, which stands where the query says."""

from __future__ import annotations

import pytest

from reference_collection import prose
from unabridged.probing.task import KINDS, Source, cut_to, prepare

SOURCES = [Source(f"{n}.txt", f"# On subject {n}\n\n{prose(n, 400)}\n") for n in range(13)]


@pytest.fixture(scope="module")
def task():
    return prepare(SOURCES, seed=17)


def test_every_document_is_asked_for_by_its_first_line_which_is_not_read(task):
    titles = {q.document: q.text for q in task.queries if q.kind == "title"}
    assert titles == {n: f"On subject {n}" for n in range(13)}
    assert not any("On subject" in text for text in task.texts)


def test_every_quarter_has_a_sentence_that_stands_in_no_other_document(task):
    sentences = [q for q in task.queries if q.kind == "sentence"]
    assert {(q.document, q.quarter) for q in sentences} == {
        (n, quarter) for n in range(13) for quarter in range(4)
    }
    for query in sentences:
        assert [query.text in text for text in task.texts].count(True) == 1
        place = task.texts[query.document].index(query.text) / len(task.texts[query.document])
        assert abs(place - query.depth) < 0.05


def test_one_needle_a_document_and_the_quarters_share_them_evenly(task):
    needles = [q for q in task.queries if q.kind == "needle"]
    assert [q.document for q in needles] == list(range(13))
    counts = [sum(q.quarter == quarter for q in needles) for quarter in range(4)]
    assert max(counts) - min(counts) <= 1
    for query in needles:
        who = query.text.removeprefix("Where does the ").partition(" keep ")[0]
        holders = [n for n, text in enumerate(task.texts) if f"The {who} keeps " in text]
        assert holders == [query.document]
        text = task.texts[query.document]
        assert abs(text.index(f"The {who} keeps ") / len(text) - query.depth) < 0.06


def test_equal_seeds_give_equal_tasks_and_others_other_ones(task):
    assert prepare(SOURCES, seed=17) == task
    assert prepare(SOURCES, seed=19) != task


def test_a_title_that_two_documents_share_is_no_query():
    twins = [Source("a", SOURCES[0].text), Source("b", SOURCES[1].text.replace("1", "0", 1))]
    assert all(query.kind != "title" for query in prepare(twins, seed=0).queries)


def test_a_sentence_that_two_documents_share_is_no_query():
    twins = [Source("a", SOURCES[0].text), Source("b", "Another\n" + SOURCES[0].text)]
    assert {query.kind for query in prepare(twins, seed=0).queries} == {"title", "needle"}


def test_a_given_title_wins_over_the_first_line_and_is_taken_out_of_the_text():
    source = Source("a", "On ships\nShips of the line, and others.\n" + prose(1, 90), "On ships")
    task = prepare([source, SOURCES[2]], seed=0)
    assert task.queries[0].text == "On ships"
    assert "On ships" not in task.texts[0]


@pytest.mark.parametrize("first", ["=" * 70, "word " * 90])
def test_a_first_line_that_is_no_title_stays_in_the_text(first):
    task = prepare([Source("a", f"{first}\n{prose(3, 90)}"), SOURCES[2]], seed=0)
    assert first.strip() in task.texts[0]
    assert not [q for q in task.queries if q.kind == "title" and q.document == 0]


def test_code_and_tables_are_no_sentences():
    rows = "\n".join(f"| {n} | {n * n} | x_{n} = f({n}) |" for n in range(99))
    task = prepare([Source("a", f"Squares\n{rows}"), SOURCES[2]], seed=0)
    assert not [q for q in task.queries if q.kind == "sentence" and q.document == 0]


def test_a_part_counts_its_documents_anew(task):
    part = task.part(3, 7)
    assert part.texts == task.texts[3:7]
    assert {query.document for query in part.queries} == set(range(4))
    whole = [task.part(0, 3), part, task.part(7, 13)]
    assert sum(len(each.queries) for each in whole) == len(task.queries)
    assert {q.kind for q in part.queries} == set(KINDS)


@pytest.mark.parametrize("tokens", [1, 7, 100, 398])
def test_a_cut_text_is_a_beginning_of_whole_words_that_just_fits(tokens):
    text = prose(5, 400)
    short = cut_to(text, tokens, lambda part: len(part.split()))
    assert text.startswith(short)
    assert text[len(short)].isspace()
    assert tokens - 1 <= len(short.split()) <= tokens


def test_a_text_that_fits_is_not_cut():
    assert cut_to("one two", 2, lambda part: len(part.split())) == "one two"
