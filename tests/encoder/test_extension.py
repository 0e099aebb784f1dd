"""Extended checkpoints: what short inputs keep, what long ones get, who can load them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import (
    Dense,
    Normalize,
    Pooling,
    Transformer,
)
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    DistilBertConfig,
    DistilBertModel,
)

from tiny_models import CONFIGS, TEXT, wordpiece
from unabridged._errors import ModelError
from unabridged.encoder import LongEncoder
from unabridged.encoder.checkpoint import find_checkpoint
from unabridged.encoder.extension import extend
from unabridged.positions import SCHEMES, sinusoidal

LONGER = 307
RESERVED = {"roberta": 2, "xlm-roberta": 2, "mpnet": 2}


def states(folder, ids):
    with torch.no_grad():
        return AutoModel.from_pretrained(folder).eval()(input_ids=ids).last_hidden_state


def random_ids(count):
    return torch.randint(5, 35, (2, count), generator=torch.Generator().manual_seed(11))


@pytest.mark.parametrize("family", CONFIGS)
def test_inputs_up_to_the_old_length_keep_their_states(family, model_folders, tmp_path):
    made = extend(model_folders[family], tmp_path / "longer", max_length=LONGER)
    before = 80 - RESERVED.get(family, 0)
    assert (made.positions_before, made.positions) == (before, LONGER)
    assert made.short_difference <= 1e-6
    ids = random_ids(before)
    torch.testing.assert_close(
        states(made.folder, ids), states(model_folders[family], ids), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("family", CONFIGS)
def test_inputs_up_to_the_new_length_can_be_read_and_no_longer_ones(
    family, model_folders, tmp_path
):
    made = extend(model_folders[family], tmp_path / "longer", max_length=LONGER)
    ids = random_ids(LONGER)
    assert states(made.folder, ids).isfinite().all()
    with pytest.raises((IndexError, RuntimeError, ValueError)):
        states(made.folder, random_ids(LONGER + 1))


@pytest.mark.parametrize("family", CONFIGS)
def test_tokenizer_and_config_know_the_new_length(family, model_folders, tmp_path):
    made = extend(model_folders[family], tmp_path / "longer", max_length=LONGER)
    tokenizer = AutoTokenizer.from_pretrained(made.folder)
    assert tokenizer.model_max_length == LONGER
    assert len(tokenizer(TEXT * 9, truncation=True).input_ids) == LONGER
    config = json.loads((made.folder / "config.json").read_text())
    assert config["max_position_embeddings"] == LONGER + RESERVED.get(family, 0)
    modes = {path.stat().st_mode for path in made.folder.iterdir() if path.is_file()}
    assert len(modes) == 1  # who may read the config may read the weights


@pytest.mark.parametrize("family", CONFIGS)
def test_no_weight_but_the_position_table_changes(family, model_folders, tmp_path):
    made = extend(model_folders[family], tmp_path / "longer", max_length=LONGER)
    old = load_file(model_folders[family] / "model.safetensors")
    new = load_file(made.folder / "model.safetensors")
    assert old.keys() == new.keys()
    assert {name for name in old if not torch.equal(old[name], new[name])} == {
        "embeddings.position_embeddings.weight"
    }


@pytest.mark.parametrize("family", CONFIGS)
def test_plain_folders_load_in_sentence_transformers_and_here(family, model_folders, tmp_path):
    made = extend(model_folders[family], tmp_path / "longer", max_length=LONGER)
    plain = SentenceTransformer(str(made.folder), device="cpu")
    assert plain.max_seq_length == LONGER
    ours = LongEncoder(made.folder, reader="truncate", dtype="float32")
    assert ours.max_length == LONGER - 2
    text = TEXT[:150]
    torch.testing.assert_close(
        torch.from_numpy(ours.encode(text)), torch.from_numpy(plain.encode(text)), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_says_what_it_changed(scheme, model_folders, tmp_path):
    made = extend(model_folders["bert"], tmp_path / "longer", max_length=LONGER, scheme=scheme)
    ids = torch.randint(5, 35, (1, 80), generator=torch.Generator().manual_seed(0))
    apart = (states(made.folder, ids) - states(model_folders["bert"], ids)).abs().max()
    if scheme in ("hierarchical", "recurrent"):
        assert made.short_difference == 0 == apart
    else:
        assert made.short_difference > 0.1 < apart
    assert made.scheme == scheme
    table = load_file(model_folders["bert"] / "model.safetensors")
    longer = load_file(made.folder / "model.safetensors")
    name = "embeddings.position_embeddings.weight"
    torch.testing.assert_close(longer[name], SCHEMES[scheme](table[name], LONGER))


def test_reserved_rows_stay_and_are_no_part_of_the_base(model_folders, tmp_path):
    made = extend(model_folders["roberta"], tmp_path / "longer", max_length=LONGER)
    name = "embeddings.position_embeddings.weight"
    old = load_file(model_folders["roberta"] / "model.safetensors")[name]
    new = load_file(made.folder / "model.safetensors")[name]
    assert torch.equal(new[:2], old[:2])
    torch.testing.assert_close(new[2:], SCHEMES["hierarchical"](old[2:], LONGER))


def test_a_sinusoidal_distilbert_is_continued_by_its_formula(tmp_path):
    config = DistilBertConfig(
        vocab_size=200, dim=24, n_layers=2, n_heads=2, hidden_dim=40, sinusoidal_pos_embds=True,
        max_position_embeddings=80,
    )  # fmt: skip
    DistilBertModel(config).save_pretrained(tmp_path / "waves")
    wordpiece().save_pretrained(tmp_path / "waves")
    made = extend(tmp_path / "waves", tmp_path / "longer", max_length=LONGER)
    assert (made.scheme, made.alpha, made.base) == ("sinusoidal", None, None)
    assert made.short_difference <= 1e-6
    model = DistilBertModel.from_pretrained(made.folder)
    torch.testing.assert_close(model.embeddings.position_embeddings.weight, sinusoidal(LONGER, 24))


@pytest.fixture(scope="module")
def sentence_folder(model_folders, tmp_path_factory):
    """A sentence-transformers folder with a dense layer, prompts and a card."""
    folder = tmp_path_factory.mktemp("sentence") / "model"
    transformer = Transformer(str(model_folders["bert"]), max_seq_length=37)
    torch.manual_seed(13)
    modules = [transformer, Pooling(24, "cls"), Dense(24, 7), Normalize()]
    model = SentenceTransformer(modules=modules, device="cpu", prompts={"query": "ask: "})
    model.save(str(folder))
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# Tiny\n\nIt is small.\n")
    return folder


def test_sentence_folders_keep_their_modules_and_get_the_new_length(sentence_folder, tmp_path):
    made = extend(sentence_folder, tmp_path / "longer", max_length=LONGER)
    old = SentenceTransformer(str(sentence_folder), device="cpu")
    new = SentenceTransformer(str(made.folder), device="cpu")
    assert [type(m) for m in new] == [type(m) for m in old]
    assert (old.max_seq_length, new.max_seq_length) == (37, LONGER)
    assert new.prompts["query"] == "ask: "
    text = TEXT[:60]
    torch.testing.assert_close(
        torch.tensor(new.encode(text)), torch.tensor(old.encode(text)), rtol=0, atol=1e-6
    )
    assert new.tokenize([TEXT * 3])["input_ids"].shape[1] > 80
    assert new.encode([TEXT * 3]).shape == (1, 7)


def test_the_card_keeps_licence_and_text_and_says_what_was_done(sentence_folder, tmp_path):
    made = extend(sentence_folder, tmp_path / "longer", max_length=LONGER, alpha=0.3, base=61)
    card = (made.folder / "README.md").read_text()
    assert card.startswith("---\nlicense: mit\n---\n")
    for words in ("80 → 307", "| hierarchical |", "| 0.3 |", "| 61 |", "nothing was trained"):
        assert words in card
    assert find_checkpoint(sentence_folder).digest in card
    assert card.rstrip().endswith("# Tiny\n\nIt is small.")
    assert str(tmp_path) not in card


def test_heads_buffers_and_old_formats_survive(tmp_path):
    """A masked language model in a .bin, with the buffers that older versions stored."""
    config = BertConfig(
        vocab_size=200, hidden_size=24, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=40, max_position_embeddings=80,
    )  # fmt: skip
    model = BertForMaskedLM(config).eval()
    folder = tmp_path / "mlm"
    model.save_pretrained(folder)
    wordpiece().save_pretrained(folder)
    (folder / "model.safetensors").unlink()
    weights = model.state_dict()
    weights["bert.embeddings.position_ids"] = torch.arange(80)[None]
    torch.save(weights, folder / "pytorch_model.bin")
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model.onnx").touch()
    made = extend(folder, tmp_path / "longer", max_length=LONGER)
    assert not (made.folder / "pytorch_model.bin").exists()
    assert not (made.folder / "onnx").exists()
    stored = load_file(made.folder / "model.safetensors")
    assert stored["bert.embeddings.position_ids"].tolist() == [list(range(LONGER))]
    ids = random_ids(80)
    with torch.no_grad():
        longer = AutoModelForMaskedLM.from_pretrained(made.folder).eval()
        torch.testing.assert_close(longer(ids).logits, model(ids).logits, rtol=0, atol=1e-6)


def test_shards_become_one_file(model_folders, tmp_path):
    folder = tmp_path / "shards"
    AutoModel.from_pretrained(model_folders["bert"]).save_pretrained(folder, max_shard_size="20KB")
    assert (folder / "model.safetensors.index.json").exists()
    made = extend(folder, tmp_path / "longer", max_length=LONGER)
    assert [path.name for path in made.folder.glob("*.safetensors*")] == ["model.safetensors"]
    assert made.short_difference == 0


STOCK = """
import sys
import numpy as np
from sentence_transformers import SentenceTransformer

old, new = (SentenceTransformer(folder, device="cpu") for folder in sys.argv[1:3])
short = ["The committee read the report.", "word " * 200]
assert np.abs(old.encode(short) - new.encode(short)).max() <= 1e-6
assert new.max_seq_length == 8192, new.max_seq_length
repeats = int(sys.argv[3])
long = "The committee read the whole report, page by page. " * repeats
assert new.tokenize([long])["input_ids"].shape[1] == 11 * repeats + 2
vector, other = (new.encode(text) for text in (long, long[:2000]))
assert np.isfinite(vector).all() and np.abs(vector - other).max() > 1e-3
assert not any(name.startswith("unabridged") for name in sys.modules)
"""


@pytest.mark.parametrize("repeats", [91, pytest.param(546, marks=pytest.mark.slow)])
def test_the_default_model_loads_offline_in_a_process_that_never_heard_of_us(repeats, tmp_path):
    """8,192 positions; short texts as before; 1,000 and 6,000 tokens in one pass."""
    made = extend("all-MiniLM-L6-v2", tmp_path / "longer", max_length=8192)
    assert made.short_difference <= 1e-6
    old = find_checkpoint(None).folder
    subprocess.run([sys.executable, "-c", STOCK, old, made.folder, str(repeats)], check=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_length": 79}, "length: is 79, and the table has 80 positions already"),
        ({"alpha": 0.5}, "alpha: is 0.5, wanted one between 0 and 1 that is not 0.5"),
        ({"alpha": 1.2}, "alpha: is 1.2"),
        ({"max_length": 6000}, "2 levels of base 77 hold 5,930 positions"),
        ({"base": 80}, "base: is 80"),
        ({"scheme": "recurrent", "alpha": 0.4}, "the scheme 'recurrent' has none"),
        ({"scheme": "rope"}, "scheme: got 'rope', wanted one of hierarchical"),
    ],
)
def test_bad_arguments_are_refused_and_leave_nothing(options, message, model_folders, tmp_path):
    with pytest.raises(ValueError, match=message):
        extend(model_folders["bert"], tmp_path / "longer", **{"max_length": LONGER, **options})
    assert not list(tmp_path.iterdir())


def test_an_existing_folder_is_refused_and_kept(model_folders, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(ModelError, match="exists already and is left as it is"):
        extend(model_folders["bert"], tmp_path / "mine")
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"


def test_a_place_inside_the_model_is_refused(model_folders):
    with pytest.raises(ModelError, match="lies inside the model's own folder"):
        extend(model_folders["bert"], model_folders["bert"] / "longer")


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"model_type": "modernbert", "global_rope_theta": 160000.0}, "rotations of queries"),
        ({"model_type": "nomic_bert", "rope_parameters": {}}, "rotations of queries"),
        ({"model_type": "bert", "position_embedding_type": "rotary_or_other"}, "not known"),
        ({"model_type": "bert", "position_embedding_type": "relative_key"}, "hold distances"),
        ({"model_type": "deberta-v2", "relative_attention": True}, "hold distances"),
        ({"model_type": "t5", "relative_attention_num_buckets": 32}, "hold distances"),
        ({"model_type": "longformer"}, "is not known here"),
    ],
)
def test_what_has_no_table_is_refused_with_the_reason(config, reason, model_folders, tmp_path):
    folder = tmp_path / "other"
    shutil.copytree(model_folders["bert"], folder)
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=f"family '{config['model_type']}' cannot.*{reason}"):
        extend(folder, tmp_path / "longer")
    assert not (tmp_path / "longer").exists()


def test_a_failure_while_writing_leaves_nothing(model_folders, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("unabridged.encoder.extension.save_file", full)
    with pytest.raises(OSError, match="No space"):
        extend(model_folders["bert"], tmp_path / "longer", max_length=LONGER)
    assert not list(tmp_path.iterdir())


def test_a_damaged_model_is_refused_before_anything_is_written(model_folders, tmp_path):
    folder = tmp_path / "damaged"
    shutil.copytree(model_folders["bert"], folder)
    weights = load_file(folder / "model.safetensors")
    del weights["embeddings.position_embeddings.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="lacks 1 weights"):
        extend(folder, tmp_path / "out" / "longer")
    assert not (tmp_path / "out").exists()
