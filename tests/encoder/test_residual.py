import copy
import logging
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from transformers import AutoModel, AutoModelForMaskedLM

from reference_residual import residual_attention
from tiny_models import CONFIGS
from unabridged._errors import ModelError
from unabridged.attention.residual import Residual
from unabridged.encoder.checkpoint import find_checkpoint
from unabridged.encoder.extension import extend
from unabridged.encoder.forward import Forward
from unabridged.encoder.loading import load_weights
from unabridged.encoder.long_encoder import LongEncoder
from unabridged.encoder.packing import Block, pack
from unabridged.encoder.residual import (
    GATE,
    gates_of,
    is_residual,
    make_residual,
    restore_residual,
)
from unabridged.encoder.surgery import dissect

WORDS = "The committee read the whole report, page by page."
FAMILIES = ["bert", "roberta", "xlm-roberta", "distilbert", "electra"]
EVERY = pytest.mark.parametrize("family", FAMILIES)


def model_of(family, *, loud=20.0, heads=AutoModel, **settings):
    """Random, with scores that matter: those of first weights are next to nothing."""
    torch.manual_seed(0)
    config = CONFIGS[family](97)
    for key, value in settings.items():
        setattr(config, key, value)
    model = heads.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for layer in dissect(model.base_model).layers:
            for part in (layer.query, layer.key, layer.value):
                part.weight.mul_(loud)
    return model


def inputs():
    ids = torch.randint(5, 97, (3, 17), generator=torch.Generator().manual_seed(1))
    mask = (torch.arange(17) < torch.tensor([[17], [11], [5]])).long()
    ids[mask == 0] = 1
    return {"input_ids": ids, "attention_mask": mask}


def open_gates(model, gate):
    with torch.no_grad():
        for each in gates_of(model):
            each.fill_(gate)


def states(model):
    given = inputs()
    real = given["attention_mask"].bool()
    return model(**given).last_hidden_state[real]


@EVERY
@pytest.mark.parametrize("mode", ["materialised", "tiled"])
def test_gates_at_zero_change_nothing(family, mode):
    model = model_of(family)
    before = states(model)
    gates = make_residual(model, residual=Residual(mode))
    assert [tuple(gate.shape) for gate in gates] == [(2,), (2,)]
    torch.testing.assert_close(states(model), before, rtol=0, atol=1e-6)


@EVERY
def test_open_gates_change_the_output_and_both_modes_agree(family):
    tiled, whole = model_of(family), model_of(family)
    before = states(tiled)
    make_residual(tiled, gate=1.0)
    make_residual(whole, gate=1.0, residual=Residual("materialised"))
    torch.testing.assert_close(states(tiled), states(whole), rtol=0, atol=2e-5)
    assert (states(tiled) - before).abs().max() > 1e-2


def test_the_second_layer_attends_by_the_sum_of_scores():
    model = model_of("bert")
    layers = dissect(model).layers
    seen = {}
    for number, layer in enumerate(layers[:2]):
        for name in ("query", "key", "value", "attention_output"):
            part = getattr(layer, name)
            part.register_forward_hook(
                lambda module, given, out, at=(number, name): seen.__setitem__(at, (given[0], out))
            )
    make_residual(model, gate=0.7)
    given = inputs()
    model(**given)

    def heads(name):
        return [seen[i, name][1].unflatten(-1, (2, 12)).transpose(1, 2) for i in (0, 1)]

    wanted = residual_attention(
        heads("query"),
        heads("key"),
        heads("value"),
        gates=[0.7, 0.7],
        key_mask=given["attention_mask"].bool(),
    )[1]
    got = seen[1, "attention_output"][0]
    torch.testing.assert_close(got, wanted.transpose(1, 2).flatten(2), rtol=0, atol=1e-5)


def test_masked_language_models_are_residual_too():
    model = model_of("bert", heads=AutoModelForMaskedLM)
    given = inputs()
    before = model(**given).logits
    make_residual(model, gate=0.0)
    got = model(**given, labels=given["input_ids"])
    torch.testing.assert_close(got.logits, before, rtol=0, atol=1e-5)
    got.loss.backward()
    assert all(gate.grad.abs().min() > 0 for gate in gates_of(model))


def slopes(model):
    model.zero_grad()
    torch.manual_seed(3)  # of the dropout
    given = inputs()
    model(**given).last_hidden_state[given["attention_mask"].bool()].square().sum().backward()
    return [each.grad.clone() for each in model.parameters() if each.grad is not None]


@EVERY
@pytest.mark.parametrize("mode", ["materialised", "tiled"])
def test_gradient_checkpointing_changes_no_gradient(family, mode):
    model = model_of(family)
    make_residual(model, gate=0.5, residual=Residual(mode))
    model.train()
    plain = slopes(model)
    model.gradient_checkpointing_enable()
    lean = slopes(model)
    assert len(plain) == len(lean)
    for a, b in zip(plain, lean, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_checkpointing_that_would_lose_gradients_is_refused():
    model = model_of("bert")
    make_residual(model, gate=0.5)
    model.train()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": True})
    with pytest.raises(ValueError, match="'use_reentrant': False"):
        slopes(model)


def test_threads_do_not_meet():
    model = model_of("bert")
    make_residual(model, gate=1.0)
    texts = [
        torch.randint(5, 97, (1, n), generator=torch.Generator().manual_seed(n))
        for n in range(3, 33)
    ]
    alone = [model(text).last_hidden_state for text in texts]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda text: model(text).last_hidden_state, texts))
    for a, b in zip(alone, together, strict=True):
        torch.testing.assert_close(a, b)


def test_a_call_within_a_call_has_scores_of_its_own():
    model = model_of("bert")
    make_residual(model, gate=1.0)
    before = states(model)
    other = torch.arange(5, 12)[None]
    called = []

    def call_within(module, given):
        if not called:
            called.append(True)
            model(other)

    model.encoder.layer[1].register_forward_pre_hook(call_within)
    torch.testing.assert_close(states(model), before)
    assert called


def test_dropout_of_probabilities_is_the_models_own():
    model = model_of("bert", attention_probs_dropout_prob=0.5, hidden_dropout_prob=0.0)
    make_residual(model, gate=1.0)
    still = states(model)
    model.train()
    torch.manual_seed(0)
    one, two = states(model), states(model)
    torch.manual_seed(0)
    assert torch.equal(one, states(model))
    assert (one - two).abs().max() > 1e-3
    assert (one - still).abs().max() > 1e-3


def test_a_saved_residual_model_comes_back(tmp_path):
    model = model_of("bert", heads=AutoModelForMaskedLM)
    make_residual(model)
    with torch.no_grad():
        for number, gate in enumerate(gates_of(model)):
            gate.copy_(torch.tensor([0.3, 0.9]) + number)
    given = inputs()
    model.save_pretrained(tmp_path)
    for kind in (AutoModelForMaskedLM, AutoModel):
        again = kind.from_pretrained(tmp_path)
        assert is_residual(again.config)
        assert not gates_of(again)
        restored = restore_residual(again, tmp_path)
        assert all(torch.equal(a, b) for a, b in zip(restored, gates_of(model), strict=True))
        wanted = model.base_model(**given).last_hidden_state
        torch.testing.assert_close(again.base_model(**given).last_hidden_state, wanted)


def test_a_plain_folder_stays_plain(tmp_path):
    model_of("bert").save_pretrained(tmp_path)
    assert restore_residual(AutoModel.from_pretrained(tmp_path), tmp_path) == ()


def test_a_copy_is_residual_too():
    model = model_of("bert")
    make_residual(model, gate=0.4)
    again = copy.deepcopy(model)
    torch.testing.assert_close(states(again), states(model))
    open_gates(again, 0.0)
    assert (states(again) - states(model)).abs().max() > 1e-3


@pytest.mark.parametrize(("family", "said"), [("albert", "share one set"), ("mpnet", "a bias")])
def test_families_that_are_unable_are_refused(family, said):
    with pytest.raises(ModelError, match=said):
        make_residual(AutoModel.from_config(CONFIGS[family](97)))


def test_twice_is_refused():
    model = model_of("bert")
    make_residual(model)
    with pytest.raises(ModelError, match="residual already"):
        make_residual(model)


def test_a_mode_without_gradient_is_refused():
    with pytest.raises(ValueError, match="wanted mode materialised or tiled"):
        make_residual(model_of("bert"), residual=Residual("compressed", rank=5))


def test_weights_of_attention_are_refused_with_the_reason():
    model = model_of("bert")
    make_residual(model)
    with pytest.raises(ValueError, match="never held"):
        model(**inputs(), output_attentions=True)


def test_a_layer_alone_is_refused():
    model = model_of("bert")
    make_residual(model)
    with pytest.raises(ValueError, match="outside of its model"):
        model.encoder(torch.zeros(1, 3, 24))
    assert hasattr(model.encoder.layer[1].attention.self, GATE)


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_the_packed_pass_reads_gates(family):
    model = model_of(family)
    make_residual(model, gate=0.8)
    ids = inputs()["input_ids"][:1]
    packed, _ = pack([Block(ids[0].tolist()), Block(ids[0, :7].tolist())], 0, (1, 1))
    got = Forward(dissect(model), torch.float32)(packed)
    wanted = [model(ids).last_hidden_state[0], model(ids[:, :7]).last_hidden_state[0]]
    for states_of_one in wanted:
        places = [i for i in range(len(got)) if torch.allclose(got[i], states_of_one[0], atol=1e-4)]
        assert len(places) == 1
        found = got[places[0] : places[0] + len(states_of_one)]
        torch.testing.assert_close(found, states_of_one, rtol=1e-4, atol=5e-5)


def test_long_encoders_read_residual_checkpoints(tmp_path, model_folders):
    plain = LongEncoder(model_folders["bert"], reader="full", dtype="float32")
    model = load_weights(plain.checkpoint)
    make_residual(model, gate=1.0)
    shutil.copytree(plain.checkpoint.folder, tmp_path / "model")
    model.save_pretrained(tmp_path / "model")
    open_encoder = LongEncoder(tmp_path / "model", reader="full", dtype="float32")
    ids = open_encoder._pipeline.tokenizer(WORDS).ids
    before, after = open_encoder._pipeline.tokenizer.specials
    whole = torch.tensor([[*before, *ids, *after]])
    wanted = model(whole).last_hidden_state[0].mean(0)
    got = torch.from_numpy(open_encoder.encode(WORDS))
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)
    assert (got - torch.from_numpy(plain.encode(WORDS))).abs().max() > 1e-2
    with pytest.raises(ModelError, match="this model is residual"):
        LongEncoder(tmp_path / "model", reader="full", attention="exact")


@EVERY
def test_extended_with_gates_is_the_same_model_to_everybody(family, model_folders, tmp_path):
    made = extend(
        model_folders[family], tmp_path / "longer", max_length=101, residual_attention=True
    )
    assert made.short_difference <= 1e-5
    ids = torch.randint(5, 35, (2, 61), generator=torch.Generator().manual_seed(0))
    stock = AutoModel.from_pretrained(made.folder).eval()(input_ids=ids).last_hidden_state
    ours = load_weights(find_checkpoint(made.folder))
    assert [gate.tolist() for gate in gates_of(ours)] == [[0.0, 0.0], [0.0, 0.0]]
    torch.testing.assert_close(ours(input_ids=ids).last_hidden_state, stock, rtol=0, atol=1e-5)
    assert "to be opened by training" in (made.folder / "README.md").read_text()


class Kept(logging.Handler):
    """Keeps what was said."""

    def __init__(self):
        super().__init__()
        self.said = ""

    def emit(self, record):
        self.said += record.getMessage()


def test_gates_are_no_news_when_loading(model_folders, tmp_path):
    made = extend(model_folders["bert"], tmp_path / "a", max_length=101, residual_attention=True)
    kept = Kept()
    logger = logging.getLogger("transformers.modeling_utils")
    logger.addHandler(kept)
    load_weights(find_checkpoint(made.folder))
    assert "residual_gate" not in kept.said
    AutoModel.from_pretrained(made.folder)
    assert "residual_gate" in kept.said
    logger.removeHandler(kept)


def test_extending_twice_keeps_the_gates(model_folders, tmp_path):
    once = extend(model_folders["bert"], tmp_path / "a", max_length=101, residual_attention=True)
    twice = extend(once.folder, tmp_path / "b", max_length=131)
    assert len(gates_of(load_weights(find_checkpoint(twice.folder)))) == 2
    with pytest.raises(ModelError, match="has gates already"):
        extend(once.folder, tmp_path / "c", max_length=131, residual_attention=True)
    assert not (tmp_path / "c").exists()


def test_what_is_unable_is_not_extended_with_gates(model_folders, tmp_path):
    with pytest.raises(ModelError, match="albert is unable"):
        extend(model_folders["albert"], tmp_path / "a", max_length=101, residual_attention=True)
    assert not (tmp_path / "a").exists()
