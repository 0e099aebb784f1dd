"""Stretches come from everywhere in a document, at all lengths, and held-out documents never."""

from __future__ import annotations

import numpy as np
import pytest

from unabridged.training import Corpus
from unabridged.training.segments import Segments, split_documents

LENGTHS = (400, 30, 5000, 211)


@pytest.fixture
def corpus():
    ends = np.concatenate([[0], np.cumsum(LENGTHS)])
    return Corpus(np.arange(ends[-1], dtype=np.int32), ends, ((-1,), (-2, -3)))


def drawn(segments, count=400):
    """First token and number of tokens of each stretch."""
    spans = []
    for number in range(count):
        ids = segments(number).ids[0].tolist()
        assert (ids[0], ids[-2:]) == (-1, [-2, -3])
        text = ids[1:-2]
        assert text == list(range(text[0], text[0] + len(text)))
        spans.append((text[0], len(text)))
    return np.array(spans)


def test_stretches_lie_within_the_documents_that_may_be_drawn(corpus):
    spans = drawn(Segments(corpus, [0, 2], shortest=50, longest=300, seed=1))
    owners = np.searchsorted(corpus.ends, spans[:, 0], side="right") - 1
    assert set(owners) == {0, 2}
    assert (spans.sum(1) <= corpus.ends[owners + 1]).all()


def test_lengths_and_places_are_spread(corpus):
    spans = drawn(Segments(corpus, [2], shortest=50, longest=800, seed=1))
    lengths = spans[:, 1]
    assert (lengths.min() < 60, lengths.max() > 700) == (True, True)
    assert abs(np.median(lengths) - 200) < 40  # the geometric middle of 50 and 800
    starts = (spans[:, 0] - corpus.ends[2]) / (LENGTHS[2] - lengths)
    assert abs(starts.mean() - 0.5) < 0.06
    assert starts.min() < 0.03
    assert starts.max() > 0.97


def test_documents_are_drawn_by_their_tokens_up_to_a_limit(corpus):
    spans = drawn(Segments(corpus, [0, 2], shortest=50, longest=300, seed=1))
    share = (spans[:, 0] >= corpus.ends[2]).mean()
    assert abs(share - 600 / 1000) < 0.1  # 5,000 tokens count as twice the longest stretch


def test_short_documents_come_whole(corpus):
    spans = drawn(Segments(corpus, [1], shortest=50, longest=300, seed=1), count=9)
    assert set(map(tuple, spans)) == {(400, 30)}


def test_equal_seeds_give_equal_stretches(corpus):
    first, again, other = (Segments(corpus, [2], 50, 300, seed) for seed in (1, 1, 2))
    assert first(17).ids.equal(again(17).ids)
    assert not first(17).ids.equal(other(17).ids)


@pytest.mark.parametrize(("documents", "count"), [(8, 1), (50, 5), (500, 7)])
def test_held_out_documents_are_others(documents, count):
    numbers = [3 * n for n in range(documents)]
    learned, looked = split_documents(numbers, share=0.1, most=7, seed=2)
    assert len(looked) == count
    assert sorted(learned + looked) == numbers
