"""Readers cut without gap and without loss."""

from __future__ import annotations

import itertools

import pytest

from unabridged.encoder.reading import Chunks, Truncate, Windows, make_reader


@pytest.mark.parametrize("tokens", [0, 1, 6, 7, 8, 13, 14, 15, 29, 200])
@pytest.mark.parametrize("overlap", [0, 2, 6])
def test_chunks_cover_every_token(tokens, overlap):
    spans = Chunks(passage=7, overlap=overlap).spans(tokens)
    assert {t for start, end in spans for t in range(start, end)} == set(range(tokens))
    assert all(0 < end - start <= 7 for start, end in spans)
    for (_, end), (start, _) in itertools.pairwise(spans):
        assert end - start == overlap


def test_no_passage_is_a_mere_rest():
    lengths = [end - start for start, end in Windows(passage=126).spans(127)]
    assert lengths == [64, 63]


def test_truncate_reads_the_first_passage_only():
    assert Truncate(passage=7).spans(100) == [(0, 7)]
    assert Truncate(passage=7).spans(0) == []


def test_a_reader_has_a_name():
    assert make_reader("windows") == Windows()
    assert make_reader(Chunks(passage=9)) == Chunks(passage=9)
    with pytest.raises(
        ValueError, match=r"got 'window', wanted one of windows, chunks, full, truncate"
    ):
        make_reader("window")


@pytest.mark.parametrize("context", [0, 64])
def test_windows_refuse_a_context_that_is_none_or_too_wide(context):
    with pytest.raises(ValueError, match="wanted 1 to half a passage"):
        Windows(passage=126, context=context)


@pytest.mark.parametrize(("passage", "overlap"), [(7, 7), (7, -1), (0, 0)])
def test_chunks_refuse_an_overlap_that_never_advances(passage, overlap):
    with pytest.raises(ValueError, match="overlap"):
        Chunks(passage=passage, overlap=overlap).spans(100)
