"""Long texts are tokenised in pieces, and nobody can tell."""

from __future__ import annotations

import pytest

from tiny_models import TEXT, TOKENIZERS
from unabridged.encoder.tokens import TextTokenizer, pieces


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("limit", [31, 97])
def test_pieces_change_no_token_and_no_offset(kind, limit, monkeypatch):
    fast = TOKENIZERS[kind]()
    reference = fast(TEXT, add_special_tokens=False, return_offsets_mapping=True)
    monkeypatch.setattr(pieces, "__defaults__", (limit,))
    tokens = TextTokenizer(fast.backend_tokenizer, fast.unk_token_id)(TEXT)
    assert len(list(pieces(TEXT))) > 3
    assert tokens.ids.tolist() == reference.input_ids
    whole = [tuple(span) for span in reference.offset_mapping]
    ours = [tuple(span) for span in tokens.chars.tolist()]
    # A unigram model shows the space before a word as part of it; where the word begins a piece
    # the offset may leave the space out, and the text of the token is the same.
    assert [TEXT[a:b].strip() for a, b in ours] == [TEXT[a:b].strip() for a, b in whole]


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_count_is_the_number_of_tokens(kind):
    fast = TOKENIZERS[kind]()
    tokenizer = TextTokenizer(fast.backend_tokenizer, fast.unk_token_id)
    assert tokenizer.count(TEXT) == len(tokenizer(TEXT)) > 50


@pytest.mark.parametrize("text", ["", " ", "word", TEXT, "x" * 101, "a\u0301" * 40, " \n" * 30])
@pytest.mark.parametrize("limit", [1, 7, 50])
def test_pieces_cover_a_text_without_gap_or_overlap(text, limit):
    spans = list(pieces(text, limit))
    assert "".join(text[start:end] for start, end in spans) == text
    assert all(0 < end - start <= limit for start, end in spans)


def test_a_combining_mark_stays_with_its_letter():
    text = "a\u0301" * 40
    assert all(text[start] != "\u0301" for start, _ in pieces(text, 7))


def test_unknown_tokens_are_reported_with_their_place():
    fast = TOKENIZERS["wordpiece"]()
    tokens = TextTokenizer(fast.backend_tokenizer, fast.unk_token_id)("report ☃ read")
    assert tokens.unknown == ((7, 8),)


def test_special_tokens_stand_before_and_after():
    fast = TOKENIZERS["byte_level"]()
    tokenizer = TextTokenizer(fast.backend_tokenizer, fast.unk_token_id)
    assert tokenizer.specials == ([0], [2])


def test_a_tokenizer_that_came_with_truncation_does_not_truncate():
    fast = TOKENIZERS["wordpiece"]()
    fast.backend_tokenizer.enable_truncation(8)
    fast.backend_tokenizer.enable_padding(length=64)
    assert len(TextTokenizer(fast.backend_tokenizer, 1)(TEXT)) > 50
    assert len(TextTokenizer(fast.backend_tokenizer, 1)("page")) == 1
