"""Everybody reads the same in every round, and no round begins that would last too long."""

from __future__ import annotations

import pytest

from reference_collection import prose
from reference_probing import contestant
from unabridged.probing import Source, hold, prepare, rounds

SOURCES = [Source(f"{n}", f"Subject {n}\n{prose(n, 90)}") for n in range(53)]
TOKENS = [100] * 53


@pytest.fixture(scope="module")
def task():
    return prepare(SOURCES, seed=3)


def test_rounds_double_and_end_with_all(task):
    held = list(hold([contestant("a"), contestant("b")], task, TOKENS))
    assert [len(each.task) for each in held] == [12, 24, 48, 53]
    assert held[-1].task == task
    for each in held:
        assert [len(record.vectors) for record in each.records] == [len(each.task)] * 2
        assert [len(record.queries) for record in each.records] == [len(each.task.queries)] * 2


def test_more_tokens_than_documents_make_no_further_round(task):
    held = list(hold([contestant("a")], task.part(0, 12), TOKENS))
    assert [len(each.task) for each in held] == [12]


def test_the_last_round_is_what_one_reading_gives(task):
    *_, last = hold([contestant("a")], task, TOKENS)
    (alone,) = hold([contestant("a")], task.part(0, 12), TOKENS[:12])
    assert last.records[0].vectors[5].tolist() == alone.records[0].vectors[5].tolist()


@pytest.mark.parametrize(
    ("budget", "documents"), [(0, [12]), (13, [12]), (30, [12, 24]), (50, [12, 24, 48])]
)
def test_a_round_is_held_only_if_it_fits_the_time(task, monkeypatch, budget, documents):
    """One second a document, by a clock that moves as somebody reads."""
    people, tokens = [contestant("a")], [len(text.split()) for text in task.texts]
    monkeypatch.setattr(rounds._Clock, "seconds", property(lambda c: c.done / (sum(tokens) / 53)))
    held = list(hold(people, task, tokens, seconds=budget))
    reached = [len(each.task) for each in held]
    assert reached[: len(documents)] == documents
    assert reached[-1] <= max(12, budget + 1)


def test_progress_never_goes_back_and_ends_with_nothing_left(task):
    steps = []
    list(hold([contestant("a"), contestant("b")], task, TOKENS, progress=steps.append))
    assert [step.seconds for step in steps] == sorted(step.seconds for step in steps)
    assert steps[0].seconds_left is None
    assert steps[-1].documents == steps[-1].documents_total == 53
    assert {step.contestant for step in steps} == {"a", "b"}


def test_what_an_interrupted_round_had_read_does_not_count(task):
    people = [contestant("a"), contestant("b", stop_after=20)]
    held = hold(people, task, TOKENS)
    first = next(held)
    with pytest.raises(KeyboardInterrupt):
        next(held)
    assert [len(record.vectors) for record in first.records] == [12, 12]
