"""What a record says is what loops say."""

from __future__ import annotations

import numpy as np
import pytest

from reference_collection import prose
from reference_probing import contestant, found
from unabridged.probing import SCORINGS, Source, prepare
from unabridged.probing.contest import Record, read

SOURCES = [Source(f"{n}", f"Subject {n}\n{prose(n, 150)}") for n in range(11)]


@pytest.fixture(scope="module")
def task():
    return prepare(SOURCES, seed=3)


@pytest.mark.parametrize("how", SCORINGS)
def test_hits_are_those_of_loops(task, how):
    record = read(contestant("words"), task)
    hits = record.hits(task, how)
    assert hits.tolist() == found(record, task, how)
    assert 0 < hits.mean() < 1


def test_ties_are_misses(task):
    flat = Record(
        "flat", {}, (np.ones((2, 3), np.float32),) * 11, np.ones((len(task.queries), 3)), 0, 0
    )
    assert not any(flat.hits(task, how).any() for how in SCORINGS)


def test_parts_together_are_the_whole(task):
    whole = read(contestant("words"), task)
    parts = [read(contestant("words"), task.part(a, b)) for a, b in ((0, 4), (4, 11))]
    joined = parts[0] + parts[1]
    assert joined.tokens == whole.tokens
    assert joined.passages == whole.passages
    np.testing.assert_array_equal(joined.queries, whole.queries)
    np.testing.assert_array_equal(joined.hits(task, "best three"), whole.hits(task, "best three"))


def test_who_reads_less_finds_less(task):
    whole, cut = (
        read(each, task).hits(task, "best passage")
        for each in (contestant("whole"), contestant("cut", words=40))
    )
    late = [n for n, q in enumerate(task.queries) if q.kind == "sentence" and q.depth > 0.5]
    assert whole[late].mean() > cut[late].mean() + 0.3
