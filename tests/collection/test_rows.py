from dataclasses import replace

import numpy as np
import pytest

from reference_collection import WordEmbedder
from unabridged.collection import rows
from unabridged.collection.documents import Document
from unabridged.collection.rows import Entry, document_rows, line_breaks, passage_batches


def entry(text, **fields):
    return Entry(Document("id", text, **fields), WordEmbedder().read(text), "", "hash", revision=7)


@pytest.mark.parametrize("block", [1, 3, 1 << 20])
def test_line_breaks_are_where_the_line_feeds_are(monkeypatch, block):
    monkeypatch.setattr(rows, "_SCAN", block)
    text = "a\nb\r\n\n🍋e\u0301\n\ud800x"
    expected = [index for index, sign in enumerate(text) if sign == "\n"]
    np.testing.assert_array_equal(line_breaks(text), expected)


def test_batches_are_bounded_and_in_order(monkeypatch):
    monkeypatch.setattr(rows, "ROWS_A_BATCH", 3)
    batches = list(passage_batches([entry("word " * 100)], 31))
    assert [batch.num_rows for batch in batches] == [3, 3, 2]
    ordinals = [ordinal for batch in batches for ordinal in batch["ordinal"].to_pylist()]
    assert ordinals == list(range(8))


def test_passages_before_the_first_page_belong_to_it():
    [batch] = passage_batches([entry("cover " * 30, page_starts=(20, 100))], 31)
    assert batch["page"].to_pylist() == [1, 1, 2]


def test_line_feed_at_the_end_of_a_passage_begins_no_line():
    made = entry("a\nb")
    reading = replace(made.reading, passage_chars=np.array([[0, 2]]))
    [batch] = passage_batches([replace(made, reading=reading)], 31)
    assert (batch["line"].to_pylist(), batch["line_end"].to_pylist()) == ([1], [1])


def test_document_without_pages_has_none():
    [batch] = passage_batches([entry("cover " * 30)], 31)
    assert batch["page"].to_pylist() == [None] * 3


def test_row_of_a_document_keeps_every_field():
    [row] = document_rows([entry("One ü.", metadata={"über": "💡"})]).to_pylist()
    assert row["metadata"] == '{"über": "💡"}'
    assert (row["characters"], row["tokens_total"], row["revision"]) == (6, 2, 7)
    assert row["text"] == "One ü."
