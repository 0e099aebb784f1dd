"""`adapt` from folder to folder, with tiny models: what it makes, continues and refuses."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForMaskedLM

from unabridged._errors import DocumentError, ModelError
from unabridged.encoder import LongEncoder
from unabridged.encoder.loading import load_weights
from unabridged.encoder.residual import gates_of
from unabridged.training import TrainingError
from unabridged.training.adaptation import Recipe, adapt

RECIPE = Recipe(max_length=211, minutes=None, steps=7, rate=1e-3, window=20, precision="float32")


class Killed(Exception):  # noqa: N818
    """Stands for a kill."""


def weights(folder):
    return load_file(folder / "model.safetensors")


def interrupt_at(number):
    def on_step(step):
        if step.number == number:
            os.kill(os.getpid(), signal.SIGINT)

    return on_step


def kill_at(number):
    def on_step(step):
        if step.number == number:
            raise Killed

    return on_step


def test_distillation_makes_a_stock_folder_that_reads_longer(tiny_bert, long_documents, tmp_path):
    made = adapt(tiny_bert, long_documents, tmp_path / "out", recipe=RECIPE)
    assert (made.goal, made.ended, made.steps) == ("distillation", "finished", 7)
    assert (made.documents, made.held_out, made.positions) == (10, 1, 211)
    assert made.loss < made.loss_before
    assert [name for name, _ in made.failed] == ["broken.pdf"]
    model = AutoModel.from_pretrained(tmp_path / "out")
    assert model.config.max_position_embeddings == 211
    assert LongEncoder(tmp_path / "out").max_length == 209
    card = (tmp_path / "out" / "README.md").read_text()
    assert card.index("training was continued") < card.index("Card of the model before")
    facts = json.loads((tmp_path / "out" / "adaptation.json").read_text())
    assert facts["recipe"]["rate"] == 1e-3
    assert (tmp_path / "out" / "adaptation.svg").read_text().startswith("<svg")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_model_with_its_head_goes_on_guessing_words(tiny_masked, long_documents, tmp_path):
    made = adapt(tiny_masked, long_documents, tmp_path / "out", recipe=RECIPE)
    assert made.goal == "masked-language"
    assert made.loss < made.loss_before
    before, after = weights(tiny_masked), weights(tmp_path / "out")
    assert before.keys() == after.keys()
    assert not torch.equal(before["cls.predictions.bias"], after["cls.predictions.bias"])
    _, report = AutoModelForMaskedLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not report["missing_keys"]


def test_distillation_leaves_a_head_as_it_is(tiny_masked, long_documents, tmp_path):
    recipe = replace(RECIPE, goal="distillation", steps=1)
    adapt(tiny_masked, long_documents, tmp_path / "out", recipe=recipe)
    before, after = weights(tiny_masked), weights(tmp_path / "out")
    assert torch.equal(before["cls.predictions.bias"], after["cls.predictions.bias"])
    assert before.keys() == after.keys()


def test_equal_seeds_give_equal_weights_and_so_do_interruptions(
    tiny_bert, long_documents, tmp_path
):
    adapt(tiny_bert, long_documents, tmp_path / "whole", recipe=RECIPE)
    parts = (tiny_bert, long_documents, tmp_path / "parts")
    first = adapt(*parts, recipe=RECIPE, on_step=interrupt_at(3))
    assert (first.ended, first.steps) == ("interrupted", 3)
    assert not (tmp_path / "parts").exists()
    with pytest.raises(Killed):
        adapt(*parts, recipe=RECIPE, on_step=kill_at(5))
    assert adapt(*parts, recipe=RECIPE).ended == "finished"
    whole, made = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(whole[name], made[name]) for name in whole)


def test_an_adapted_model_can_go_on_learning_from_the_original(tiny_bert, long_documents, tmp_path):
    recipe = replace(RECIPE, steps=2)
    adapt(tiny_bert, long_documents, tmp_path / "once", recipe=RECIPE)
    own = adapt(tmp_path / "once", long_documents, tmp_path / "own", recipe=recipe)
    taught = replace(recipe, teacher=str(tiny_bert))
    again = adapt(tmp_path / "once", long_documents, tmp_path / "again", recipe=taught)
    assert own.loss_before != again.loss_before
    itself = replace(recipe, teacher=str(tmp_path / "once"))
    same = adapt(tmp_path / "once", long_documents, tmp_path / "same", recipe=itself)
    assert (same.loss_before, same.loss) == (own.loss_before, own.loss)


def test_positions_and_norms_alone(tiny_bert, long_documents, tmp_path):
    recipe = replace(RECIPE, trains="positions+norms", steps=2)
    adapt(tiny_bert, long_documents, tmp_path / "out", recipe=recipe)
    before, after = weights(tiny_bert), weights(tmp_path / "out")
    changed = {n for n in before if n not in after or not torch.equal(before[n], after[n])}
    assert changed
    assert all("LayerNorm" in name or "position_embeddings" in name for name in changed)


def test_another_attention_is_trained_with_and_remembered(tiny_bert, long_documents, tmp_path):
    recipe = replace(RECIPE, attention="exact", steps=2)
    adapt(tiny_bert, long_documents, tmp_path / "out", recipe=recipe)
    plain = replace(recipe, attention=None)
    adapt(tiny_bert, long_documents, tmp_path / "plain", recipe=plain)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["unabridged_attention"]["name"] == "exact"
    torch.testing.assert_close(weights(tmp_path / "out"), weights(tmp_path / "plain"))


@pytest.mark.parametrize("family", ["roberta", "distilbert", "electra", "albert", "mpnet"])
def test_every_family_can_be_adapted(family, save_tiny, long_documents, tmp_path):
    model = save_tiny(tmp_path / "model", family)
    made = adapt(model, long_documents, tmp_path / "out", recipe=replace(RECIPE, steps=1))
    assert AutoModel.from_pretrained(tmp_path / "out").config.model_type == family
    assert made.positions == 211


def test_short_documents_are_refused_and_nothing_is_left(tiny_bert, long_documents, tmp_path):
    recipe = replace(RECIPE, window=30, max_length=1000)
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted(long_documents.glob("*-?.txt"))[:7]:
        (few / path.name).write_bytes(path.read_bytes())
    with pytest.raises(DocumentError, match=r"7 of 7 documents .* more than 60 tokens"):
        adapt(tiny_bert, few, tmp_path / "out", recipe=recipe)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DocumentError, match="holds no document that can be read"):
        adapt(tiny_bert, empty, tmp_path / "out", recipe=recipe)
    with pytest.raises(DocumentError, match="does not exist"):
        adapt(tiny_bert, tmp_path / "nowhere", tmp_path / "out", recipe=recipe)
    assert {path.name for path in tmp_path.iterdir()} == {"few", "empty"}


def test_a_model_that_cannot_be_adapted_is_refused(tiny_bert, long_documents, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(ModelError, match="takes 78 tokens and reads windows of 100"):
        adapt(tiny_bert, long_documents, out, recipe=replace(RECIPE, max_length=None, window=100))
    recipe = replace(RECIPE, goal="masked-language")
    with pytest.raises(ModelError, match="no head for masked language modelling"):
        adapt(tiny_bert, long_documents, out, recipe=recipe)
    out.mkdir()
    with pytest.raises(ModelError, match="exists already"):
        adapt(tiny_bert, long_documents, out, recipe=RECIPE)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_another_recipe_does_not_continue_an_unfinished_one(tiny_bert, long_documents, tmp_path):
    parts = (tiny_bert, long_documents, tmp_path / "out")
    adapt(*parts, recipe=RECIPE, on_step=interrupt_at(1))
    with pytest.raises(TrainingError, match=r"whose rate is 0.001, and now it is 0.01"):
        adapt(*parts, recipe=replace(RECIPE, rate=0.01))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"goal": "guess"}, "goal is 'guess'"),
        ({"trains": "heads"}, "trains is 'heads'"),
        ({"minutes": None}, "neither minutes nor steps"),
        ({"window": 3}, "window is 3 tokens"),
    ],
)
def test_recipes_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**settings)


@pytest.mark.parametrize("goal", ["distillation", "masked-language"])
def test_layers_may_learn_to_hand_scores_on(goal, tiny_masked, long_documents, tmp_path):
    longest = 211 if goal == "distillation" else None
    recipe = replace(RECIPE, goal=goal, max_length=longest, residual_attention=True)
    made = adapt(tiny_masked, long_documents, tmp_path / "out", recipe=recipe)
    gates = [each for name, each in weights(tmp_path / "out").items() if "residual_gate" in name]
    assert len(gates) == 2
    assert made.loss <= made.loss_before
    if goal == "masked-language" or made.loss < made.loss_before:
        assert all(gate.abs().min() > 1e-4 for gate in gates)
    else:  # so few steps of distillation may help a random teacher nothing: the old weights stay
        assert all(gate.abs().max() == 0 for gate in gates)
    model = load_weights(LongEncoder(tmp_path / "out", reader="full").checkpoint)
    assert [gate.tolist() for gate in gates_of(model)] == [gate.tolist() for gate in gates]
    assert "loads without its gates" in (tmp_path / "out" / "README.md").read_text()


def test_residual_attention_begins_where_the_model_was(tiny_bert, long_documents, tmp_path):
    looked = [
        adapt(tiny_bert, long_documents, tmp_path / str(each), recipe=recipe).loss_before
        for each in (False, True)
        for recipe in [replace(RECIPE, residual_attention=each, steps=1)]
    ]
    assert looked[0] == pytest.approx(looked[1], abs=1e-5)


def test_residual_attention_and_another_one_are_refused_together():
    with pytest.raises(ValueError, match="leave one of them out"):
        Recipe(attention="favor", residual_attention=True)
