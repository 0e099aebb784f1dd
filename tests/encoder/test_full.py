"""The full reader: one pass, every token sees every other, and nothing is left out."""

from __future__ import annotations

import math
import shutil

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812  the name it has everywhere
from transformers import AutoModel

from tiny_models import TEXT
from unabridged._errors import ModelError
from unabridged.attention.exact import Exact
from unabridged.encoder import Chunks, Full, LongEncoder
from unabridged.encoder.extension import extend
from unabridged.encoder.registry import set_attention

FAMILIES = ["bert", "roberta", "distilbert", "electra", "albert", "mpnet"]
LONG = TEXT * 3


@pytest.fixture(scope="module")
def longer(model_folders, tmp_path_factory):
    root = tmp_path_factory.mktemp("longer")
    for family in FAMILIES:
        extend(model_folders[family], root / family, max_length=600)
    return root


def one_pass(folder, ids, scale=1.0):
    """Oracle: Hugging Face's own states (T, D) of the whole sequence, scores times `scale`."""
    model = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    if scale != 1:
        for layer in model.encoder.layer:
            for part in (layer.attention.self.query.weight, layer.attention.self.query.bias):
                part.data *= scale
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids])).last_hidden_state[0].numpy()


def rows(encoder, text):
    prefix, suffix = encoder._pipeline.tokenizer.specials
    return [*prefix, *encoder.read(text).token_ids.tolist(), *suffix]


@pytest.mark.parametrize("family", FAMILIES)
def test_one_vector_is_the_mean_of_hugging_faces_one_pass(family, longer):
    encoder = LongEncoder(longer / family, dtype="float32", reader="full")
    reading = encoder.read(LONG)
    assert len(reading) == 1
    assert reading.coverage.tokens_total > 80
    states = one_pass(longer / family, rows(encoder, LONG))
    np.testing.assert_allclose(reading.vectors[0], states.mean(0), rtol=1e-3, atol=1e-4)
    apart = LongEncoder(longer / family, dtype="float32", reader=Chunks(40)).read(LONG)
    assert np.abs(apart.vector - reading.vector).max() > 1e-2


def test_late_chunks_are_means_of_states_of_the_one_pass(longer):
    encoder = LongEncoder(longer / "bert", dtype="float32", reader=Full(passage=31))
    reading = encoder.read(LONG)
    states = one_pass(longer / "bert", rows(encoder, LONG))[1:-1]
    assert reading.passage_tokens.tolist() == [list(s) for s in Chunks(31).spans(len(states))]
    for passage in reading.passages:
        wanted = states[slice(*passage.tokens)].mean(0)
        np.testing.assert_allclose(passage.vector, wanted, rtol=1e-3, atol=1e-4)


def test_the_log_length_temperature_multiplies_every_score(longer):
    encoder = LongEncoder(longer / "bert", dtype="float32", reader=Full(log_length=29))
    ids = rows(encoder, LONG)
    states = one_pass(longer / "bert", ids, scale=math.log(len(ids)) / math.log(29))
    vector = encoder.read(LONG).vector
    np.testing.assert_allclose(vector, states.mean(0), rtol=1e-3, atol=1e-4)
    plain = LongEncoder(longer / "bert", dtype="float32", reader="full").read(LONG).vector
    assert np.abs(vector - plain).max() > 1e-3
    short = "The committee"
    unchanged = LongEncoder(longer / "bert", dtype="float32", reader="full").read(short).vector
    np.testing.assert_array_equal(encoder.read(short).vector, unchanged)


def test_a_document_beyond_the_positions_is_read_in_equal_passes(longer):
    encoder = LongEncoder(longer / "bert", dtype="float32", reader="full")
    reading = encoder.read(TEXT * 12)
    assert reading.coverage.share == 1
    lengths = np.diff(reading.passage_tokens, axis=1)[:, 0]
    assert len(lengths) > 1
    assert lengths.max() <= 598
    assert lengths[-2] - lengths[-1] in (0, 1)


def test_long_and_short_documents_together_read_as_each_alone(longer, monkeypatch):
    texts = [LONG, "", "The committee", TEXT * 12, TEXT]
    for reader in (Full(), Full(passage=31)):
        encoder = LongEncoder(longer / "bert", dtype="float32", reader=reader)
        for alone_rows in (8192, 100):
            monkeypatch.setattr("unabridged.encoder.pipeline.ALONE_ROWS", alone_rows)
            together = list(encoder.read_many(texts))
            for text, reading in zip(texts, together, strict=True):
                alone = encoder.read(text)
                np.testing.assert_allclose(reading.vectors, alone.vectors, rtol=1e-4, atol=1e-5)
                np.testing.assert_array_equal(reading.passage_tokens, alone.passage_tokens)


def test_a_prompt_takes_room_from_the_pass_and_no_token_from_the_document(longer):
    encoder = LongEncoder(longer / "bert", dtype="float32", reader="full")
    reading = encoder.read(TEXT * 12, prompt="The committee")
    assert reading.coverage.share == 1
    assert np.diff(reading.passage_tokens, axis=1).max() <= 598 - encoder.count_tokens(
        "The committee"
    )


def test_exact_attention_of_our_own_gives_the_same_vectors(longer):
    ours = LongEncoder(longer / "bert", dtype="float32", reader="full", attention=Exact(tile=64))
    torchs = LongEncoder(longer / "bert", dtype="float32", reader="full")
    np.testing.assert_allclose(
        ours.read(LONG).vector, torchs.read(LONG).vector, rtol=1e-4, atol=1e-5
    )
    assert ours.fingerprint != torchs.fingerprint
    named = LongEncoder(longer / "bert", dtype="float32", reader="full", attention="exact")
    np.testing.assert_allclose(named.read(LONG).vector, ours.read(LONG).vector, atol=1e-5)


def test_the_choice_of_attention_reaches_every_layer(longer):
    class Uniform:
        def __call__(self, query, key, value, **_):
            return F.scaled_dot_product_attention(query * 0, key, value)

    uniform = LongEncoder(longer / "bert", dtype="float32", reader="full", attention=Uniform())
    plain = LongEncoder(longer / "bert", dtype="float32", reader="full")
    assert np.abs(uniform.read(LONG).vector - plain.read(LONG).vector).max() > 1e-2


@pytest.mark.parametrize("family", ["bert", "mpnet"])
def test_a_checkpoint_saved_with_an_attention_is_read_with_it(family, longer, tmp_path):
    model = AutoModel.from_pretrained(longer / family)
    set_attention(model, Exact(tile=64) if family == "bert" else "exact")
    shutil.copytree(longer / family, tmp_path / "saved")
    model.save_pretrained(tmp_path / "saved")
    encoder = LongEncoder(tmp_path / "saved", reader="full")
    assert encoder.attention == (Exact(tile=64) if family == "bert" else None)
    assert LongEncoder(longer / family, reader="full").attention is None


def test_what_cannot_be_is_refused_with_the_reason(longer, model_folders, tmp_path):
    with pytest.raises(ValueError, match=r"Full: passage is 0 tokens; wanted at least 1"):
        Full(passage=0)
    with pytest.raises(ValueError, match=r"Full: log_length is 1 tokens; wanted"):
        Full(log_length=1)
    with pytest.raises(ModelError, match="attention: this model adds a bias of relative positions"):
        LongEncoder(longer / "mpnet", attention=Exact())
    with pytest.raises(ValueError, match="late chunks are pooled from the middle of a pass"):
        LongEncoder(_pooled_by_cls(model_folders["bert"], tmp_path), reader=Full(passage=31))


def _pooled_by_cls(folder, place):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    modules = [Transformer(str(folder)), Pooling(24, "cls")]
    SentenceTransformer(modules=modules, device="cpu").save(str(place))
    return place
