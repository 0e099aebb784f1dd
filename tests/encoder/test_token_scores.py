"""A linear function of a passage's vector is the sum of its tokens' scores, whatever the reader."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tiny_models import TEXT
from unabridged._errors import ModelError
from unabridged.encoder import (
    Chunks,
    Full,
    LongEncoder,
    Windows,
    can_score_tokens,
    token_scores,
)

READERS = {
    "chunks": Chunks(passage=17),
    "overlapping chunks": Chunks(passage=17, overlap=5),
    "windows": Windows(passage=17, context=5),
    "one pass": Full(),
    "late chunks": Full(passage=11),
}


@pytest.mark.parametrize("family", ["bert", "roberta"])
@pytest.mark.parametrize("name", READERS)
def test_scores_sum_to_the_product_with_every_vector(name, family, model_folders):
    encoder = LongEncoder(model_folders[family], reader=READERS[name], dtype="float32")
    text = TEXT[:120]
    reading = encoder.read(text)
    direction = np.random.default_rng(4).standard_normal(encoder.dimension)
    parts = token_scores(encoder, text, direction)
    assert len(parts) == len(reading)
    for part, vector, (start, end) in zip(
        parts, reading.vectors, reading.passage_tokens, strict=True
    ):
        assert len(part.own) == end - start
        assert part.rows - len(part.own) == (0 if name == "late chunks" else 2)
        np.testing.assert_allclose(part.own.sum() + part.special, vector @ direction, rtol=1e-4)


def test_scores_belong_to_their_tokens():
    """In unit vectors of one passage: ⟨w, h_t⟩ over rows and length, token by token."""
    encoder = LongEncoder(dtype="float32")
    whole = token_scores(encoder, "a lemon tree", np.eye(384)[3])[0]
    assert len(whole.own) == encoder.count_tokens("a lemon tree")
    assert np.ptp(whole.own) > 0
    vector = encoder.read("a lemon tree").vectors[0]
    every = [token_scores(encoder, "a lemon tree", axis)[0].own[1] for axis in np.eye(384)[:5]]
    at_once = token_scores(encoder, "a lemon tree", np.eye(384)[:5].sum(0))[0].own[1]
    assert abs(sum(every) - at_once) < 1e-6  # linear in the direction
    assert abs(np.linalg.norm(vector) - 1) < 1e-5


def test_another_pooling_is_refused(model_folders, tmp_path):
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_P", "type": "sentence_transformers.models.Pooling"},
    ]
    folder = tmp_path / "cls"
    folder.mkdir()
    for path in model_folders["bert"].iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_P").mkdir()
    pooling = {"word_embedding_dimension": 24, "pooling_mode_cls_token": True}
    (folder / "1_P" / "config.json").write_text(json.dumps(pooling))
    encoder = LongEncoder(folder, reader=Chunks(passage=17), dtype="float32")
    assert not can_score_tokens(encoder)
    with pytest.raises(ModelError, match="wanted the mean"):
        token_scores(encoder, "a text", np.zeros(24))
