"""`unabridged extend` makes a longer model, or says why not."""

from __future__ import annotations

import json
from typing import get_args, get_type_hints

import pytest
from transformers import AutoModel

from tiny_models import CONFIGS, wordpiece
from unabridged.cli.extend import extend
from unabridged.positions import Scheme


@pytest.fixture
def bert(tmp_path):
    tokenizer = wordpiece()
    AutoModel.from_config(CONFIGS["bert"](len(tokenizer))).save_pretrained(tmp_path / "bert")
    tokenizer.save_pretrained(tmp_path / "bert")
    return tmp_path / "bert"


def test_extend_makes_a_folder_and_says_what_it_did(run, bert):
    outcome = run("extend", bert, "longer", "--max-length", "211")
    assert outcome.code == 0
    assert "80 → 211" in outcome.out
    assert "hierarchical, alpha 0.4, base 77" in outcome.out
    assert "changed by at most 0" in outcome.out
    assert "README.md" in outcome.err
    assert AutoModel.from_pretrained("longer").config.max_position_embeddings == 211


def test_extend_as_json(run, bert, tmp_path):
    options = ("--max-length", 211, "--scheme", "recurrent", "--base", 70, "--json", "-q")
    outcome = run("extend", bert, tmp_path / "longer", *options)
    assert outcome.err == ""
    assert outcome.json["folder"] == str(tmp_path / "longer")
    assert (outcome.json["scheme"], outcome.json["alpha"]) == ("recurrent", None)
    assert (outcome.json["base"], outcome.json["short_difference"]) == (70, 0.0)


def test_extend_adds_closed_gates(run, bert):
    outcome = run("extend", bert, "longer", "--max-length", 211, "--residual-attention", "--json")
    assert "gates of all layers at 0" in outcome.json["gates"]
    assert outcome.json["short_difference"] < 1e-6


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--alpha", "0.5"), "alpha: is 0.5"),
        (("--alpha", "-1"), "alpha: is -1"),
        (("--max-length", "79"), "has 80 positions already"),
        (("--max-length", "9999"), "hold 5,930 positions"),
        (("--scheme", "rope"), "'rope' is not one of"),
    ],
)
def test_wrong_usage_has_its_own_exit_code(run, bert, tmp_path, options, words):
    outcome = run("extend", bert, tmp_path / "longer", *options)
    assert outcome.code == 2
    assert words in " ".join(outcome.err.replace("│", " ").split())
    assert not (tmp_path / "longer").exists()


def test_an_existing_folder_and_another_family_are_errors(run, bert, tmp_path):
    (tmp_path / "mine").mkdir()
    outcome = run("extend", bert, tmp_path / "mine")
    assert (outcome.code, outcome.out) == (1, "")
    assert "exists already" in outcome.err
    (bert / "config.json").write_text(json.dumps({"model_type": "gemma", "rope_theta": 1e4}))
    outcome = run("extend", bert, tmp_path / "longer")
    assert outcome.code == 1
    assert "RoPE" in outcome.err


def test_the_command_offers_every_scheme():
    hint = get_type_hints(extend, include_extras=True)["scheme"]
    assert get_args(get_args(hint)[0]) == get_args(Scheme)
