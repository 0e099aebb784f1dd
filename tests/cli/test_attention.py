"""`unabridged attention` says what another attention does to a model, or why it cannot."""

from __future__ import annotations

import pytest
from transformers import AutoModel

from tiny_models import CONFIGS, wordpiece
from unabridged.attention.choices import ATTENTIONS


@pytest.fixture
def bert(tmp_path):
    tokenizer = wordpiece()
    AutoModel.from_config(CONFIGS["bert"](len(tokenizer))).save_pretrained(tmp_path / "bert")
    tokenizer.save_pretrained(tmp_path / "bert")
    return tmp_path / "bert"


@pytest.fixture
def page(tmp_path):
    path = tmp_path / "page.txt"
    path.write_text("The committee read the whole report, page by page. " * 2)
    return path


@pytest.mark.parametrize("name", ATTENTIONS)
def test_a_line_a_layer_and_the_whole_below(run, bert, page, name):
    outcome = run("attention", bert, page, "--attention", name)
    assert outcome.code == 0
    lines = outcome.out.splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["0", "1", "2"]
    assert "to that of exact attention" in outcome.out
    assert outcome.err == ""


def test_favor_shows_what_its_variance_foretold(run, bert, page):
    head = run("attention", bert, page, "--attention", "favor").out.splitlines()[0]
    assert "Weights off, foretold" in head
    assert "Far mass" not in head


def test_as_json_with_settings_of_ones_own(run, bert, page):
    options = ("--attention", "favor", "--set", "features=19", "--set", "kind=favor+")
    measured = run("attention", bert, page, *options, "--rows", 11, "--json").json
    assert '"features": 19' in measured["attention"]
    assert '"kind": "favor+"' in measured["attention"]
    assert measured["rows"] == 11
    assert len(measured["layers"]) == 3
    assert measured["layers"][0]["heads"][0]["predicted"] > 0


def test_it_is_drawn(run, bert, page, tmp_path):
    picture = tmp_path / "heads.svg"
    run("attention", bert, page, "--attention", "favor", "--plot", picture)
    assert "<svg" in picture.read_text()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--attention", "sparse"), "got 'sparse'; wanted one of exact"),
        (("--attention", "favor", "--set", "features"), "wanted NAME=VALUE"),
        (("--attention", "favor", "--set", "colour=red"), "no setting 'colour'"),
        (("--attention", "favor", "--set", "features=0"), "features is 0"),
    ],
)
def test_wrong_usage_has_its_own_exit_code(run, bert, page, options, words):
    outcome = run("attention", bert, page, *options)
    assert outcome.code == 2
    assert words in " ".join(outcome.err.replace("│", " ").split())


def test_a_document_that_does_not_fit_is_wrong_usage(run, bert, page):
    page.write_text("The committee read the whole report, page by page. " * 20)
    outcome = run("attention", bert, page, "--attention", "favor")
    assert outcome.code == 2
    assert "model 80 positions" in " ".join(outcome.err.replace("│", " ").split())
