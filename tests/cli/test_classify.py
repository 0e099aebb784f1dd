"""Documents are labelled from the command line, and every label is answered for."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from reference_classification import encoder_of
from unabridged.cli import opening


@pytest.fixture
def labelled(tmp_path, model):
    """Ten documents of two kinds in a folder, with a file of labels."""
    folder = tmp_path / "labelled"
    folder.mkdir()
    lines = ["document,label"]
    for label, words in {"law": "court judge appeal", "sea": "tide harbour vessel"}.items():
        for number in range(5):
            (folder / f"{label}{number}.txt").write_text(f"{words} item{number}")
            lines.append(f"{label}{number}.txt,{label}")
    (folder / "labels.csv").write_text("\n".join(lines))
    return folder


@pytest.fixture
def classifier(labelled, run):
    outcome = run("classify", "train", labelled, "--labels", labelled / "labels.csv", "--json")
    assert outcome.code == 0
    assert outcome.json["documents"] == 10
    assert outcome.json["classes"] == ["law", "sea"]
    return outcome.json["classifier"]


def test_new_document_is_labelled(classifier, tmp_path, run):
    document = tmp_path / "new.txt"
    document.write_text("a judge in court")
    outcome = run("classify", "predict", document, "--with", classifier, "--json")
    assert outcome.json["label"] == "law"
    assert math.isclose(sum(outcome.json["probabilities"].values()), 1, abs_tol=1e-6)
    assert "law" in run("classify", "predict", document, "--with", classifier).out


def test_dry_run_says_the_price_and_writes_nothing(labelled, run):
    before = sorted(labelled.rglob("*"))
    command = ("classify", "train", labelled, "--labels", labelled / "labels.csv", "--dry-run")
    found = run(*command, "--json").json
    assert (found["documents"], found["classes"], found["tokens"]) == (10, ["law", "sea"], 40)
    assert found["minutes"] > 0
    shown = run(*command).out
    assert "minutes" in shown
    assert "MB on disk" in shown
    assert sorted(labelled.rglob("*")) == before


def test_price_said_beforehand_is_the_price_paid(labelled, classifier, run):
    command = ("classify", "train", labelled, "--labels", labelled / "labels.csv")
    said = run(*command, "--dry-run", "--json").json["bytes"]
    paid = sum(path.stat().st_size for path in Path(classifier).rglob("*") if path.is_file())
    assert 0.5 < said / paid < 2


def test_why_shows_two_accounts_that_sum_to_the_lead(classifier, tmp_path, run):
    document = tmp_path / "new.txt"
    document.write_text("the harbour and the tide " * 9 + "and one judge")
    found = run("why", document, "--with", classifier, "--json").json
    passages = math.fsum(passage["amount"] for passage in found["passages"])
    assert math.isclose(found["bias"] + passages, found["lead"], abs_tol=1e-9)
    lines = math.fsum(line["amount"] for line in found["lines"])
    assert math.isclose(lines, found["lead"], abs_tol=1e-6)
    assert abs(found["residual"]) < 1e-6
    shown = run("why", document, "--with", classifier).out
    assert "sea" in shown
    assert "residual" in shown


def test_why_names_a_copy_first_and_marks_it(classifier, labelled, run):
    copy = labelled / "sea3.txt"
    for order in ("contribution", "alike", "removal"):
        found = run("why", copy, "--with", classifier, "--by", order, "--json").json
        assert found["taught"][0]["document"] == "sea3.txt"
        assert found["taught"][0]["twin"]
    shown = run("why", copy, "--with", classifier, "--by", "removal").out
    assert "the same text" in shown
    assert "without it" in shown


def test_why_refuses_an_unknown_order_and_an_impossible_comparison(classifier, labelled, run):
    document = labelled / "sea3.txt"
    assert run("why", document, "--with", classifier, "--by", "size").code == 2
    outcome = run("why", document, "--with", classifier, "--against", "sea")
    assert outcome.code == 1
    assert "wanted one of law" in outcome.err


def test_layers_are_trained_with_the_head_and_answer_for_labels(labelled, run, monkeypatch):
    encoder = encoder_of("bert", labelled.parent)
    monkeypatch.setattr(opening, "load_encoder", lambda name, made_with=None: encoder)
    command = ("classify", "train", labelled, "--labels", labelled / "labels.csv", "--train", "all")
    price = run(*command, "--dry-run", "--json").json
    assert price["training"]["memory"] > 0
    made = run(*command, "--json").json["classifier"]
    paid = sum(path.stat().st_size for path in Path(made).rglob("*") if path.is_file())
    assert 0.5 < price["bytes"] / paid < 2
    document = labelled / "sea3.txt"
    label = run("classify", "predict", document, "--with", made, "--json").json["label"]
    found = run("why", document, "--with", made, "--json").json
    assert found["prediction"]["label"] == label
    assert found["taught"][0]["twin"]
    tokens = math.fsum(token["amount"] for token in found["tokens"]["tokens"])
    beside = found["tokens"]["bias"] + found["tokens"]["special"] + found["tokens"]["rounding"]
    assert math.isclose(tokens + beside, found["lead"], abs_tol=1e-6)
    assert run("suspects", "--with", made).code == 1


def test_suspects_lists_documents_with_their_labels(classifier, run):
    found = run("suspects", "--with", classifier, "-n", 3, "--json").json
    assert len(found) == 3
    assert {"document", "label", "instead", "support", "loss"} == set(found[0])
    assert "Support" in run("suspects", "--with", classifier).out


def test_labelled_document_that_is_missing_is_named_and_changes_the_exit_code(labelled, run):
    labels = labelled / "labels.csv"
    labels.write_text(labels.read_text() + "\ngone.txt,law")
    outcome = run("classify", "train", labelled, "--labels", labels)
    assert outcome.code == 3
    assert "gone.txt" in outcome.err


def test_missing_classifier_says_how_to_train_one(model, run):
    outcome = run("suspects")
    assert outcome.code == 1
    assert "classify train" in outcome.err
