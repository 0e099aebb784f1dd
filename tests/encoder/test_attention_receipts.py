from __future__ import annotations

import json

import pytest
import torch

from unabridged._errors import ModelError, UnabridgedError
from unabridged.attention.exact import Exact
from unabridged.attention.favor import Favor
from unabridged.encoder import LongEncoder
from unabridged.encoder.attention_plot import draw
from unabridged.encoder.attention_receipts import measure_attention

TEXT = "The committee read the whole report, page by page. " * 3


@pytest.fixture(scope="module")
def receipt(model_folders):
    return measure_attention(TEXT, Favor(features=19), model=model_folders["bert"], rows=17)


def test_every_head_of_every_layer_has_a_receipt(receipt):
    assert [len(layer.heads) for layer in receipt.layers] == [2, 2, 2]
    assert all(head.error > 1e-3 for layer in receipt.layers for head in layer.heads)
    assert receipt.rows == 17
    assert json.loads(json.dumps(receipt.as_json()))["layers"][2]["heads"][1]["error"] > 0


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "electra", "albert"])
def test_tokens_are_those_that_pass(model_folders, family):
    receipt = measure_attention("the report", Favor(), model=model_folders[family])
    encoder = LongEncoder(model_folders[family], reader="full")
    assert receipt.tokens == encoder.count_tokens("the report") + 2 == receipt.rows


def test_exact_attention_leaves_the_vector_and_every_head_alone(model_folders):
    receipt = measure_attention(TEXT, Exact(kernel="tiled"), model=model_folders["bert"])
    assert receipt.cosine == pytest.approx(1, abs=1e-6)
    assert all(head.error < 1e-5 for layer in receipt.layers for head in layer.heads)


def test_the_cosine_is_that_of_the_products_own_vectors(model_folders, receipt):
    kept = {"model": model_folders["bert"], "reader": "full", "dtype": "float32"}
    vectors = [
        torch.as_tensor(LongEncoder(**kept, attention=attention).encode(TEXT))
        for attention in (None, Favor(features=19))
    ]
    cosine = torch.cosine_similarity(*vectors, dim=0).item()
    assert receipt.cosine == pytest.approx(cosine, abs=1e-5)
    assert receipt.cosine < 0.9999


def test_an_error_is_the_heads_own_and_not_inherited(model_folders):
    """In the first pass exact attention goes on, whatever the other one makes of its inputs."""
    seen = []

    def doubled(query, key, value, *, key_mask=None, causal=False, scale=None):
        seen.append(value)
        return 2 * Exact()(query, key, value, scale=scale)

    receipt = measure_attention(TEXT, doubled, model=model_folders["bert"])
    for layer in receipt.layers:
        assert [head.error for head in layer.heads] == pytest.approx([1.0, 1.0])
    # Two calls a layer in the first pass, for seconds and for errors; then it goes on by itself.
    witnessed, alone = seen[-12:-6:2], seen[-3:]
    assert torch.equal(witnessed[0], alone[0])
    assert not torch.equal(witnessed[1], alone[1])


def test_a_text_that_does_not_fit_is_refused(model_folders):
    with pytest.raises(ValueError, match=r"the model 80 positions; .* `unabridged extend`"):
        measure_attention(TEXT * 9, "favor", model=model_folders["bert"])


def test_an_empty_text_is_refused(model_folders):
    with pytest.raises(ValueError, match="the text is empty"):
        measure_attention("", "favor", model=model_folders["bert"])


def test_relative_positions_are_refused(model_folders):
    with pytest.raises(ModelError, match="relative positions"):
        measure_attention(TEXT, "favor", model=model_folders["mpnet"])


def test_it_is_drawn(receipt, tmp_path):
    draw(receipt, tmp_path / "heads.svg")
    assert "<svg" in (tmp_path / "heads.svg").read_text()


def test_an_unknown_kind_of_picture_is_refused(receipt, tmp_path):
    with pytest.raises(UnabridgedError, match="could not be written"):
        draw(receipt, tmp_path / "heads.colour")
