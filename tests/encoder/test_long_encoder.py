"""LongEncoder against sentence-transformers, and what it does where that one stops."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

from tiny_models import TEXT
from unabridged._errors import ModelError
from unabridged.encoder import Chunks, LongEncoder, Truncate, Windows
from unabridged.encoder.checkpoint import find_checkpoint
from unabridged.encoder.pipeline import CHUNK_ROWS
from unabridged.encoder.precision import probe_precision

SHORT = ["", "The committee", "naïve café 東京タワー 👩‍👩‍👧", TEXT[:60]]
UNICODE = "𝒯he naïve re\u0301sumé 👩‍👩‍👧 of 東京タワー, ﬁnally. "


def shrink_batches(monkeypatch):
    for name in ("CHUNK_ROWS", "WINDOW_ROWS"):
        monkeypatch.setattr(f"unabridged.encoder.pipeline.{name}", 100)


@pytest.fixture(scope="module")
def default():
    return LongEncoder(dtype="float32")


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta", "distilbert", "electra",
                                    "albert", "mpnet"])  # fmt: skip
def test_short_texts_get_sentence_transformers_vectors(family, model_folders):
    ours = LongEncoder(model_folders[family], dtype="float32", reader=Chunks(passage=40))
    theirs = SentenceTransformer(
        modules=[Transformer(str(model_folders[family])), Pooling(24)], device="cpu"
    )
    texts = [text for text in SHORT if ours.count_tokens(text) <= ours.max_length]
    assert len(texts) >= 3
    np.testing.assert_allclose(ours.encode(texts), theirs.encode(texts), rtol=1e-4, atol=3e-5)


@pytest.mark.parametrize("mode", ["mean", "cls", "max", "mean_sqrt_len_tokens", "weightedmean",
                                  "lasttoken", ("cls", "mean")])  # fmt: skip
def test_every_pooling_mode_is_sentence_transformers_own(mode, model_folders, tmp_path):
    width = 24 * (1 if isinstance(mode, str) else len(mode))
    modules = [Transformer(str(model_folders["bert"])), Pooling(24, mode)]
    theirs = SentenceTransformer(modules=modules, device="cpu")
    theirs.save(str(tmp_path))
    ours = LongEncoder(tmp_path, dtype="float32", reader=Chunks(passage=40))
    assert ours.dimension == width
    np.testing.assert_allclose(ours.encode(SHORT), theirs.encode(SHORT), rtol=1e-4, atol=3e-5)


def test_dense_layers_normalisation_and_prompts_are_followed(model_folders, tmp_path):
    from sentence_transformers.base.modules import Dense
    from sentence_transformers.sentence_transformer.modules import Normalize

    torch.manual_seed(5)
    modules = [Transformer(str(model_folders["bert"])), Pooling(24), Dense(24, 11), Normalize()]
    theirs = SentenceTransformer(
        modules=modules, device="cpu", prompts={"query": "the page: ", "document": ""}
    )
    theirs.save(str(tmp_path))
    ours = LongEncoder(tmp_path, dtype="float32", reader=Chunks(passage=40))
    for name in ("encode", "encode_query", "encode_document"):
        np.testing.assert_allclose(
            getattr(ours, name)(SHORT), getattr(theirs, name)(SHORT), rtol=1e-4, atol=3e-5
        )
    assert not np.allclose(ours.encode_query(SHORT), ours.encode(SHORT), atol=1e-3)


def test_options_follow_sentence_transformers(default):
    theirs = SentenceTransformer(str(find_checkpoint().folder), device="cpu")
    for options in (
        {"normalize_embeddings": True, "truncate_dim": 100},
        {"precision": "ubinary"},
        {"convert_to_tensor": True, "batch_size": 2},
    ):
        ours, wanted = (model.encode(SHORT, **options) for model in (default, theirs))
        assert type(ours) is type(wanted)
        np.testing.assert_allclose(np.asarray(ours), np.asarray(wanted), atol=1e-6)
    assert [t.shape for t in default.encode(SHORT, convert_to_numpy=False)] == [(384,)] * 4
    assert default.encode(SHORT[1]).shape == theirs.encode(SHORT[1]).shape == (384,)
    vectors = default.encode(SHORT[1:])
    torch.testing.assert_close(
        default.similarity(vectors, vectors), theirs.similarity(vectors, vectors)
    )


@pytest.mark.parametrize("depth", [0.1, 0.5, 0.9])
def test_a_needle_anywhere_in_a_long_document_changes_the_reading(default, depth):
    hay = "The meeting went on with the next point of the agenda. " * 1850  # 20,000 tokens
    cut = int(len(hay) * depth)
    cut = hay.rfind(" ", 0, cut)
    needled = hay[:cut] + " The vault code is ninety-three. " + hay[cut:]
    before, after = default.read(hay), default.read(needled)
    assert before.coverage.share == after.coverage.share == 1.0
    assert after.coverage.tokens_total > 20_000
    assert np.abs(before.vector - after.vector).max() > 1e-5
    query = default.encode_query("What is the vault code?")
    found = after[int(np.argmax(after.vectors @ query))]
    assert "vault code" in needled[slice(*found.chars)]
    short = LongEncoder(dtype="float32", reader="truncate").read(needled)
    ((start, end),) = short.coverage.unread
    assert short.coverage.share < 0.02
    assert end == len(needled)
    assert "vault" in needled[start:end]


@pytest.mark.parametrize("reader", [Chunks(passage=30), Chunks(passage=30, overlap=7),
                                    Windows(passage=30, context=9)])  # fmt: skip
@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta"])
def test_offsets_are_places_in_the_original_string(reader, family, model_folders):
    text = UNICODE * 20
    encoder = LongEncoder(model_folders[family], dtype="float32", reader=reader)
    reading = encoder.read(text)
    covered = np.zeros(len(text), bool)
    for passage in reading.passages:
        start, end = passage.chars
        covered[start:end] = True
        own = reading.token_chars[slice(*passage.tokens)]
        assert (own[:, 0].min(), own[:, 1].max()) == (start, end)
    missed = {text[i] for i in np.flatnonzero(~covered)}
    assert not {char for char in missed if not char.isspace()}
    first = reading.token_chars[0]
    assert text[slice(*first)].strip() == text[slice(*first)].strip() != ""


def test_short_and_long_texts_together_read_as_each_alone(model_folders):
    encoder = LongEncoder(model_folders["bert"], dtype="float32", reader=Windows(30, 9))
    texts = [TEXT * 9, "", "page", TEXT, TEXT * 4]
    together = list(encoder.read_many(iter(texts)))
    for text, reading in zip(texts, together, strict=True):
        np.testing.assert_allclose(encoder.read(text).vectors, reading.vectors, atol=2e-5)


@pytest.mark.parametrize("reader", [Chunks(passage=30), Windows(passage=30, context=15)])
def test_a_document_longer_than_a_batch_reads_as_if_it_were_one(reader, model_folders, monkeypatch):
    encoder = LongEncoder(model_folders["bert"], dtype="float32", reader=reader)
    text = TEXT * 10
    whole = encoder.read(text)
    assert len(whole) * 32 < CHUNK_ROWS
    shrink_batches(monkeypatch)
    pieced = encoder.read(text)
    np.testing.assert_allclose(pieced.vectors, whole.vectors, atol=2e-5)


def test_texts_are_pulled_only_as_needed(model_folders, monkeypatch):
    shrink_batches(monkeypatch)
    encoder = LongEncoder(model_folders["bert"], dtype="float32", reader=Chunks(passage=30))
    pulled = []

    def texts():
        for index in range(500):
            pulled.append(index)
            yield TEXT

    next(encoder.read_many(texts()))
    assert len(pulled) < 250


def test_tokens_are_reported_as_they_are_read(model_folders):
    encoder = LongEncoder(model_folders["bert"], dtype="float32", reader=Windows(30, 9))
    told: list[int] = []
    readings = list(encoder.read_many([TEXT, TEXT * 3], on_tokens=told.append))
    assert sum(told) == sum(reading.coverage.tokens_read for reading in readings) > 0


def test_an_empty_document_has_no_passage_and_nothing_missing(default):
    reading = default.read("")
    assert reading.vectors.shape == (0, 384)
    assert reading.coverage.share == 1.0


def test_a_long_word_is_read_as_unknown_and_said_so(default):
    reading = default.read("x" * 300_000)
    assert reading.coverage.share == 1.0
    assert reading.coverage.unknown[0][0] == 0
    assert reading.coverage.unknown[-1][1] == 300_000


def test_equal_fingerprints_mean_equal_pipelines(default, model_folders):
    other = LongEncoder(dtype="float32", reader=Chunks(passage=99))
    assert default.fingerprint == LongEncoder(dtype="float32").fingerprint
    assert default.fingerprint != other.fingerprint
    tiny = LongEncoder(model_folders["bert"], dtype="float32", reader=Chunks(passage=40))
    assert tiny.fingerprint["model"] != default.fingerprint["model"]


def test_a_prompt_that_changes_vectors_changes_the_fingerprint(model_folders, tmp_path):
    modules = [Transformer(str(model_folders["bert"])), Pooling(24)]
    SentenceTransformer(modules=modules, device="cpu").save(str(tmp_path))
    before = find_checkpoint(tmp_path).digest
    settings = tmp_path / "config_sentence_transformers.json"
    config = json.loads(settings.read_text())
    settings.write_text(json.dumps(config | {"prompts": {"document": "page: "}}))
    assert find_checkpoint(tmp_path).digest != before


def test_bad_arguments_are_told_apart(default, model_folders):
    with pytest.raises(TypeError, match="input 1 is bytes, wanted str"):
        default.encode(["a", b"b"])
    with pytest.raises(TypeError, match="option 'normalise' is not known"):
        default.encode("a", normalise=True)
    with pytest.raises(ValueError, match="prompt_name is 'query'"):
        default.encode("a", prompt_name="query")
    with pytest.raises(ValueError, match="do not fit the model's 80 positions"):
        LongEncoder(model_folders["bert"], reader=Truncate(passage=79))
    with pytest.raises(ValueError, match="dtype: got 'float16'"):
        LongEncoder(model_folders["bert"], dtype="float16")


def test_the_probe_is_remembered(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = probe_precision()
    monkeypatch.setattr("unabridged.encoder.precision._rate", lambda dtype: 1 / 0)
    assert probe_precision() == first
    (tmp_path / "unabridged" / "precision.json").write_text("{")
    with pytest.raises(ZeroDivisionError):
        probe_precision()


class TestModelsThatDoNotLoad:
    def test_a_path_that_is_nothing(self, tmp_path):
        with pytest.raises(ModelError, match="neither a folder nor a Hub id"):
            LongEncoder(tmp_path / "no" / "such" / "folder")

    def test_a_hub_id_that_is_not_here(self, monkeypatch):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        with pytest.raises(ModelError, match="not in the Hub cache, and HF_HUB_OFFLINE is set"):
            LongEncoder("nobody/nothing")

    def test_an_empty_folder(self, tmp_path):
        with pytest.raises(ModelError, match=r"holds no config\.json"):
            LongEncoder(tmp_path)

    def test_no_weights(self, model_folders, tmp_path):
        shutil.copytree(model_folders["bert"], tmp_path / "m")
        (tmp_path / "m" / "model.safetensors").unlink()
        with pytest.raises(ModelError, match="but no weights"):
            LongEncoder(tmp_path / "m")

    def test_truncated_weights(self, model_folders, tmp_path):
        shutil.copytree(model_folders["bert"], tmp_path / "m")
        weights = tmp_path / "m" / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1000])
        with pytest.raises(ModelError, match="the file may be damaged"):
            LongEncoder(tmp_path / "m")

    def test_missing_weights(self, model_folders, tmp_path):
        from safetensors.torch import load_file, save_file

        shutil.copytree(model_folders["bert"], tmp_path / "m")
        weights = tmp_path / "m" / "model.safetensors"
        tensors = load_file(weights)
        del tensors["encoder.layer.1.output.dense.weight"]
        save_file(tensors, weights, {"format": "pt"})
        with pytest.raises(ModelError, match=r"lacks 1 weights, the first encoder\.layer\.1"):
            LongEncoder(tmp_path / "m")

    def test_another_family(self, model_folders, tmp_path):
        shutil.copytree(model_folders["bert"], tmp_path / "m")
        config = json.loads((tmp_path / "m" / "config.json").read_text())
        config["model_type"] = "gpt2"
        (tmp_path / "m" / "config.json").write_text(json.dumps(config))
        with pytest.raises(ModelError, match=r"lacks|not supported|does not load"):
            LongEncoder(tmp_path / "m")

    def test_a_default_model_that_is_not_the_published_one(self, monkeypatch, tmp_path):
        shutil.copytree(find_checkpoint().folder, tmp_path / "m")
        with (tmp_path / "m" / "model.safetensors").open("r+b") as file:
            file.seek(-1, 2)
            file.write(b"!")
        monkeypatch.setattr(
            "unabridged.encoder.checkpoint._from_hub_cache", lambda _: tmp_path / "m"
        )
        with pytest.raises(ModelError, match="has SHA-256"):
            LongEncoder()

    def test_code_of_the_models_own_is_not_run(self, model_folders, tmp_path):
        theirs = SentenceTransformer(
            modules=[Transformer(str(model_folders["bert"])), Pooling(24)], device="cpu"
        )
        theirs.save(str(tmp_path))
        modules = json.loads((tmp_path / "modules.json").read_text())
        modules.append({"idx": 2, "name": "2", "path": "2_X", "type": "their.Module"})
        (tmp_path / "modules.json").write_text(json.dumps(modules))
        with pytest.raises(ModelError, match="code of the model's own"):
            LongEncoder(tmp_path, reader=Chunks(passage=40))
