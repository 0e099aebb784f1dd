from __future__ import annotations

import copy
import json

import pytest
import torch
from torch import nn
from transformers import (
    AttentionMaskInterface,
    AutoConfig,
    AutoModel,
    BertConfig,
    BertModel,
    ModernBertConfig,
    ModernBertModel,
    PreTrainedModel,
)

from unabridged import _late_registration
from unabridged._errors import ModelError
from unabridged.attention.choices import ATTENTIONS, make_attention
from unabridged.attention.exact import Exact
from unabridged.attention.favor import Favor
from unabridged.attention.multipole import Multipole
from unabridged.encoder.checkpoint import find_checkpoint
from unabridged.encoder.registry import attend, attention_of, saved_attention, set_attention

_late_registration.watch()

FAMILIES = ("bert", "roberta", "distilbert", "electra", "albert")
LENGTHS = (41, 7, 23, 2)
PLAIN = Favor(kind="favor+", invariances="none")
SMALL = Multipole(near=4, block=4, group=4, shared=2, short=0)
KINDS = {
    "exact": Exact(),
    "tiled": Exact(tile=5, kernel="tiled"),
    "favor": Favor(),
    "plain favor": PLAIN,
    "multipole": Multipole(),
    "small multipole": SMALL,
}
"""Every kind; the default multipole is exact for texts as short as these, the small one is not."""


def cases():
    """Every family with every attention that it takes."""
    yield from ((family, kind) for family in FAMILIES for kind in KINDS)
    yield from (("mpnet", kind) for kind in ("exact", "tiled"))


def batch(model, lengths=LENGTHS, seed=0):
    generator = torch.Generator().manual_seed(seed)
    low = 5  # ids below are marks; the padding's own embedding matters in RoBERTa
    high = model.config.vocab_size
    texts = [torch.randint(low, high, (n,), generator=generator) for n in lengths]
    padding = model.config.pad_token_id
    ids = nn.utils.rnn.pad_sequence(texts, batch_first=True, padding_value=padding)
    mask = torch.tensor([[i < n for i in range(max(lengths))] for n in lengths])
    return texts, ids, mask.long()


def load(folder, name, **options):
    model = AutoModel.from_pretrained(folder, attn_implementation=name, **options)
    return model.eval()


@torch.no_grad()
def furthest_from_one_by_one(model, lengths=LENGTHS):
    """Largest difference between a text's states in a padded batch and alone."""
    texts, ids, mask = batch(model, lengths)
    together = model(ids, attention_mask=mask).last_hidden_state
    alone = [model(text[None]).last_hidden_state[0] for text in texts]
    rows = zip(together, alone, strict=True)
    return max(float((row[: len(text)] - text).abs().max()) for row, text in rows)


@pytest.mark.parametrize(("family", "kind"), list(cases()))
def test_a_padded_batch_gives_what_one_by_one_gives(model_folders, family, kind):
    model = AutoModel.from_pretrained(model_folders[family])
    set_attention(model, KINDS[kind])
    assert furthest_from_one_by_one(model) < 1e-5


@pytest.mark.parametrize("name", ATTENTIONS)
def test_the_default_model_pads_without_a_trace(name):
    model = load(find_checkpoint(None).folder, name)
    # States are up to 5.7 large; sums of random features are rounded otherwise by two threads.
    assert furthest_from_one_by_one(model) < (4e-5 if name == "favor" else 1e-5)


def test_the_default_model_pads_without_a_trace_where_multipole_sums_up():
    model = load(find_checkpoint(None).folder, "multipole")
    set_attention(model, Multipole(near=64, block=16, group=16, shared=8, short=0))
    assert furthest_from_one_by_one(model, lengths=(301, 7, 211, 2)) < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_without_its_mask_function_padding_would_be_seen(model_folders, kind, monkeypatch):
    model = AutoModel.from_pretrained(model_folders["bert"])
    set_attention(model, KINDS[kind])
    monkeypatch.delitem(AttentionMaskInterface._global_mapping, model.config._attn_implementation)
    assert furthest_from_one_by_one(model) > 1e-2


@pytest.mark.parametrize("family", [*FAMILIES, "mpnet"])
@torch.no_grad()
def test_exact_equals_the_models_own_attention(model_folders, family):
    model, own = load(model_folders[family], "exact"), load(model_folders[family], "eager")
    _, ids, mask = batch(model)
    got, wanted = (m(ids, attention_mask=mask).last_hidden_state for m in (model, own))
    seen = mask.bool()
    torch.testing.assert_close(got[seen], wanted[seen], rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_mpnet_equals_its_own_attention_over_several_tiles(model_folders):
    options = {"max_position_embeddings": 700, "ignore_mismatched_sizes": True}
    torch.manual_seed(0)
    model = load(model_folders["mpnet"], "exact", **options)
    set_attention(model, Exact(tile=127))
    own = AutoModel.from_config(copy.deepcopy(model.config), attn_implementation="eager").eval()
    own.load_state_dict(model.state_dict())
    _, ids, mask = batch(model, lengths=(601, 300))
    got, wanted = (m(ids, attention_mask=mask).last_hidden_state for m in (model, own))
    seen = mask.bool()
    torch.testing.assert_close(got[seen], wanted[seen], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", sorted(set(ATTENTIONS) - {"exact"}))
def test_mpnet_refuses_what_knows_no_bias(model_folders, name):
    with pytest.raises(ModelError, match=f"bias of relative positions .* '{name}'"):
        load(model_folders["mpnet"], name)


def test_settings_are_saved_beside_the_checkpoint_and_applied_again(model_folders, tmp_path):
    model = AutoModel.from_pretrained(model_folders["bert"])
    set_attention(model, Exact(tile=19))
    model.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert written["unabridged_attention"]["tile"] == 19
    again = AutoModel.from_pretrained(tmp_path)
    assert again.config._attn_implementation == "exact"
    assert attention_of(again.config) == Exact(tile=19)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_layer_is_computed_with_the_saved_settings(model_folders, family, monkeypatch):
    used = []
    monkeypatch.setattr(Exact, "__call__", lambda self, *a, **k: used.append(self) or a[2])
    model = AutoModel.from_pretrained(model_folders[family])
    set_attention(model, Exact(tile=19))
    _, ids, mask = batch(model)
    model(ids, attention_mask=mask)
    assert used == [Exact(tile=19)] * 3


def test_what_was_saved_can_be_asked_of_a_config(model_folders, tmp_path):
    model = AutoModel.from_pretrained(model_folders["bert"])
    assert saved_attention(model.config) is None
    set_attention(model, SMALL)
    model.save_pretrained(tmp_path)
    assert saved_attention(AutoConfig.from_pretrained(tmp_path)) == SMALL


def test_an_explicit_choice_wins_over_the_saved_one(model_folders, tmp_path):
    model = AutoModel.from_pretrained(model_folders["bert"])
    set_attention(model, Exact(tile=19))
    model.save_pretrained(tmp_path)
    plain = AutoModel.from_pretrained(tmp_path, attn_implementation="sdpa")
    assert plain.config._attn_implementation == "sdpa"
    assert attention_of(plain.config) is None
    plain.save_pretrained(tmp_path / "plain")
    assert AutoModel.from_pretrained(tmp_path / "plain").config._attn_implementation == "sdpa"


def test_a_choice_at_loading_is_saved_too(model_folders, tmp_path):
    load(model_folders["bert"], "exact").save_pretrained(tmp_path)
    assert AutoModel.from_pretrained(tmp_path).config._attn_implementation == "exact"


def test_settings_can_be_given_by_the_config(model_folders):
    config = AutoConfig.from_pretrained(model_folders["bert"])
    config.unabridged_attention = {"name": "exact", "tile": 31}
    model = AutoModel.from_pretrained(model_folders["bert"], config=config)
    assert attention_of(model.config) == Exact(tile=31)


def test_a_saved_setting_that_no_attention_takes_is_refused(model_folders):
    config = AutoConfig.from_pretrained(model_folders["bert"])
    config.unabridged_attention = {"name": "exact", "tiles": 31}
    with pytest.raises(ValueError, match="'exact' has no setting 'tiles'"):
        AutoModel.from_pretrained(model_folders["bert"], config=config)


@pytest.mark.parametrize("family", [*FAMILIES, "mpnet"])
def test_weights_are_refused_not_left_empty(model_folders, family):
    model = load(model_folders[family], "exact")
    with pytest.raises(ValueError, match="output_attentions=True needs the whole matrix"):
        model(batch(model)[1], output_attentions=True)


@pytest.mark.parametrize("family", [*FAMILIES, "mpnet"])
def test_dropout_inside_attention_is_refused_not_left_out(model_folders, family):
    model = load(model_folders[family], "exact").train()
    for part in model.modules():  # ALBERT's default has none
        if isinstance(part, nn.Dropout):
            part.p = 0.1
    with pytest.raises(ValueError, match=r"dropout of 0\.1 on .* never held"):
        model(batch(model)[1])


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_checkpointing_changes_no_gradient(model_folders, kind):
    gradients = []
    for switch in ("activation_checkpointing_disable", "activation_checkpointing_enable"):
        model = load(model_folders["bert"], "exact", attention_probs_dropout_prob=0.0)
        set_attention(model, KINDS[kind])
        model.config.hidden_dropout_prob = 0.0
        for part in model.modules():
            if isinstance(part, nn.Dropout):
                part.p = 0.0
        getattr(model.train(), switch)()
        _, ids, mask = batch(model)
        model(ids, attention_mask=mask).last_hidden_state.square().sum().backward()
        gradients.append({key: w.grad for key, w in model.named_parameters()})
    torch.testing.assert_close(gradients[0], gradients[1])
    assert float(gradients[0]["encoder.layer.0.attention.self.query.weight"].abs().max()) > 0


@pytest.mark.parametrize("name", ATTENTIONS)
def test_a_models_own_scale_and_grouped_queries_are_honoured(name):
    layer = nn.Module()
    layer.config = BertConfig()
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(1, 6, 29, 7, generator=generator)
    key, value = (torch.randn(1, 2, 29, 7, generator=generator) for _ in range(2))
    got, weights = attend(name, layer, query, key, value, None, scaling=0.05)
    wide = (part.repeat_interleave(3, dim=1) for part in (key, value))
    wanted = make_attention(name)(query, *wide, scale=0.05).transpose(1, 2)
    torch.testing.assert_close(got, wanted)
    assert weights is None


@pytest.mark.parametrize("kind", KINDS)
def test_autocast_reaches_no_sum_of_an_attention(model_folders, kind):
    model = AutoModel.from_pretrained(model_folders["bert"])
    set_attention(model, KINDS[kind])
    _, ids, mask = batch(model)
    with torch.autocast("cpu", torch.bfloat16):
        states = model(ids, attention_mask=mask).last_hidden_state
    states.float().square().sum().backward()
    wanted = model(ids, attention_mask=mask).last_hidden_state
    cosine = torch.cosine_similarity(states.float(), wanted, dim=-1)[mask.bool()]
    assert cosine.min() > 0.99


def test_a_decoder_is_refused():
    config = BertConfig(vocab_size=13, hidden_size=8, num_hidden_layers=1, num_attention_heads=2)
    config.is_decoder = True
    model = BertModel(config).eval()
    set_attention(model, "exact")
    with pytest.raises(ValueError, match="causal, sliding or packed mask"):
        model(torch.tensor([[5, 6, 7]]))


def test_a_sliding_window_is_refused():
    config = ModernBertConfig(
        vocab_size=13,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=8,
        pad_token_id=0,
        layer_types=["sliding_attention", "full_attention"],
    )
    model = ModernBertModel(config).eval()
    set_attention(model, "exact")
    with pytest.raises(ValueError, match="causal, sliding or packed mask"):
        model(torch.tensor([[5, 6, 7]]))


def test_a_mask_that_says_more_than_padding_is_refused(model_folders):
    model = load(model_folders["bert"], "exact")
    _, ids, _ = batch(model)
    mask = torch.ones(len(LENGTHS), 1, max(LENGTHS), max(LENGTHS)).tril()
    with pytest.raises(ValueError, match=r"the mask has shape \(4, 1, 41, 41\)"):
        model(ids, attention_mask=mask)


class Aloof(PreTrainedModel):
    """A model that never asks which attention to use."""

    config_class = BertConfig
    _can_set_attn_implementation_cached_value = False


def test_a_model_that_would_ignore_the_name_is_refused():
    with pytest.raises(ModelError, match="Aloof computes its attention itself"):
        Aloof._from_config(BertConfig(), attn_implementation="exact")


def test_make_attention_is_what_a_name_means(model_folders):
    for name in ATTENTIONS:
        assert attention_of(load(model_folders["bert"], name).config) == make_attention(name)


def test_a_plain_implementation_is_none_of_ours(model_folders):
    assert attention_of(load(model_folders["bert"], "sdpa").config) is None
