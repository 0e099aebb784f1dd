"""Token blocks hold every token once, in order, and batches every block once an epoch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from unabridged.training import Batch, Batches, Corpus, TrainingError


class Characters:
    """One token a character."""

    specials = ([1001], [1002, 1003])

    def __init__(self):
        self.seen = 0

    def __call__(self, text):
        self.seen += 1
        return type("Tokens", (), {"ids": np.array([ord(c) for c in text], np.int32)})


TEXTS = ["abcdefghijk", "", "lmnop", "q", "rstuvwxyzABC"]


@pytest.fixture
def corpus(tmp_path):
    return Corpus.write(tmp_path, TEXTS, Characters())


def test_documents_come_back_as_they_were_written(corpus, tmp_path):
    for one in (corpus, Corpus.open(tmp_path)):
        back = ["".join(map(chr, one.document(i))) for i in range(len(one))]
        assert back == TEXTS
        assert one.lengths().tolist() == [len(text) for text in TEXTS]


def test_texts_are_pulled_one_at_a_time(tmp_path):
    tokenizer = Characters()

    def texts():
        for number, text in enumerate(TEXTS):
            assert tokenizer.seen == number
            yield text

    Corpus.write(tmp_path, texts(), tokenizer)
    assert isinstance(Corpus.open(tmp_path).ids, np.memmap)


def test_a_stream_of_blocks_is_the_text_without_its_last_incomplete_block(corpus):
    blocks = corpus.blocks(7)
    assert {len(block) for block in map(blocks.__getitem__, range(len(blocks)))} == {7}
    inner = [block[1:-2] for block in map(blocks.__getitem__, range(len(blocks)))]
    whole = "".join(TEXTS)
    assert "".join(map(chr, torch.cat(inner).tolist())) == whole[: len(whole) // 4 * 4]
    assert blocks[0].tolist() == [1001, *map(ord, "abcd"), 1002, 1003]


def test_blocks_of_documents_never_mix_them(corpus):
    blocks = corpus.blocks(8, over="documents", documents=[0, 2, 4])
    texts = ["".join(map(chr, blocks[i][1:-2].tolist())) for i in range(len(blocks))]
    assert texts == ["abcde", "fghij", "k", "lmnop", "rstuv", "wxyzA", "BC"]
    longer = corpus.blocks(8, over="documents", documents=[0, 2, 4], shortest=2)
    assert len(longer) == len(blocks) - 1


@pytest.mark.parametrize(
    ("length", "message"), [(3, "3 tokens leave no room"), (99, "give not one block of 99")]
)
def test_impossible_blocks_are_refused(corpus, length, message):
    with pytest.raises(ValueError, match=message):
        corpus.blocks(length)


def test_a_corpus_that_is_not_there_or_not_whole_is_refused(corpus, tmp_path):
    with pytest.raises(TrainingError, match="holds none"):
        Corpus.open(tmp_path / "elsewhere")
    with (tmp_path / "tokens.int32").open("ab") as file:
        file.write(b"1234")
    with pytest.raises(TrainingError, match="not whole"):
        Corpus.open(tmp_path)


def test_every_block_comes_once_an_epoch_in_another_order():
    blocks = [torch.tensor([n]) for n in range(13)]
    batches = Batches(blocks, size=5, seed=3)
    drawn = [n for number in range(13) for n in batches(number).ids[:, 0].tolist()]
    epochs = [drawn[start : start + 13] for start in range(0, 65, 13)]
    assert all(sorted(epoch) == list(range(13)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 5


def test_a_batch_depends_on_its_number_and_the_seed_alone():
    blocks = [torch.tensor([n]) for n in range(13)]
    late = Batches(blocks, size=5, seed=3)(7)
    assert late.ids.equal(Batches(blocks, size=5, seed=3)(7).ids)
    assert not late.ids.equal(Batches(blocks, size=5, seed=4)(7).ids)


def test_blocks_of_one_length_need_no_mask():
    assert Batch.of([torch.arange(3), torch.arange(3)]).attention_mask is None
    mask = Batch.of([torch.arange(3), torch.arange(2)]).attention_mask
    assert mask.tolist() == [[1, 1, 1], [1, 1, 0]]
