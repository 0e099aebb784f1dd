"""`unabridged adapt` teaches a model, continues where it was interrupted, or says why not."""

from __future__ import annotations

import os
import signal

import pytest
from safetensors.torch import load_file
from transformers import AutoModel

from tiny_models import CONFIGS, TEXT, wordpiece
from unabridged.training import loop

OPTIONS = ("--max-length", 4000, "--steps", 2)


@pytest.fixture
def bert(tmp_path):
    tokenizer = wordpiece()
    config = CONFIGS["bert"](len(tokenizer))
    config.max_position_embeddings = 300
    AutoModel.from_config(config).save_pretrained(tmp_path / "bert")
    tokenizer.save_pretrained(tmp_path / "bert")
    return tmp_path / "bert"


@pytest.fixture
def contracts(tmp_path):
    folder = tmp_path / "contracts"
    folder.mkdir()
    for number in range(8):
        (folder / f"{number}.txt").write_text(TEXT * (6 + number % 3), encoding="utf-8")
    return folder


def test_adapt_opens_gates_of_residual_attention(run, bert, contracts):
    outcome = run("adapt", bert, contracts, "longer", "--residual-attention", *OPTIONS)
    assert outcome.code == 0
    gates = [v for k, v in load_file("longer/model.safetensors").items() if "residual_gate" in k]
    assert all(gate.abs().min() > 0 for gate in gates)
    assert len(gates) == 2


def test_adapt_makes_a_folder_and_says_what_it_did(run, bert, contracts):
    outcome = run("adapt", bert, contracts, "longer", *OPTIONS)
    assert outcome.code == 0
    assert "distillation" in outcome.out
    assert "finished, after 2 steps" in outcome.out
    assert "7 to learn from, 1 held out" in outcome.out
    assert "step 2, loss" in outcome.err
    assert AutoModel.from_pretrained("longer").config.max_position_embeddings == 4000


def test_adapt_as_json_and_quietly(run, bert, contracts):
    (contracts / "broken.pdf").write_bytes(b"%PDF-1.4 nothing")
    outcome = run("adapt", bert, contracts, "longer", *OPTIONS, "--json", "-q")
    assert (outcome.code, outcome.err) == (3, "")
    assert outcome.json["failed"][0]["id"] == "broken.pdf"
    assert outcome.json["loss"] <= outcome.json["loss_before"]


def test_an_interruption_has_its_exit_code_and_the_same_command_continues(
    run, bert, contracts, monkeypatch, tmp_path
):
    whole = loop.make_optimizer

    def interrupting(model, settings):
        optimizer = whole(model, settings)
        optimizer.register_step_post_hook(lambda *_: os.kill(os.getpid(), signal.SIGINT))
        return optimizer

    command = ("adapt", bert, contracts, "longer", *OPTIONS)
    with monkeypatch.context() as patched:
        patched.setattr(loop, "make_optimizer", interrupting)
        outcome = run(*command)
    assert outcome.code == 130
    assert "The same command continues" in outcome.err
    outcome = run(*command)
    assert (outcome.code, "after 2 steps" in outcome.out) == (0, True)


def test_what_cannot_be_done_is_an_error(run, bert, contracts, tmp_path):
    (tmp_path / "mine").mkdir()
    assert "exists already" in run("adapt", bert, contracts, tmp_path / "mine").err
    short = tmp_path / "short"
    short.mkdir()
    (short / "note.txt").write_text("A short note.")
    outcome = run("adapt", bert, short, "longer", *OPTIONS)
    assert outcome.code == 1
    assert "0 of 1 documents" in outcome.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--attention", "psychic"), "'psychic'"),
        (("--rate", "-1"), "peak is -1"),
        (("--goal", "guess"), "'guess' is not one of"),
    ],
)
def test_wrong_usage_has_its_own_exit_code(run, bert, contracts, options, words):
    outcome = run("adapt", bert, contracts, "longer", *OPTIONS, *options)
    assert outcome.code == 2
    assert words in " ".join(outcome.err.replace("│", " ").split())
