"""`unabridged audit` counts what a model would never see."""

from __future__ import annotations


def test_audit_counts_tokens_beyond_the_length_of_the_model(run, model, documents):
    outcome = run("audit", documents, "--json")
    assert outcome.code == 0
    assert outcome.json["files"] == [
        {"id": "deep/clocks.txt", "tokens": 6, "unseen": 0},
        {"id": "lemons.txt", "tokens": 35, "unseen": 28},
        {"id": "ships.md", "tokens": 6, "unseen": 0},
    ]
    assert (outcome.json["tokens"], outcome.json["unseen"]) == (47, 28)


def test_audit_shows_shares_and_totals(run, model, documents):
    lines = run("audit", documents, "--model", "owner/name").out.splitlines()
    assert model.asked == ["owner/name"]
    assert lines[2].split() == ["lemons.txt", "35", "28", "80.0%"]
    assert lines[-1].split() == ["3", "documents", "47", "28", "59.6%"]


def test_audit_names_what_it_could_not_read(run, model, documents):
    (documents / "letter.doc").write_bytes(b"words")
    outcome = run("audit", documents)
    assert outcome.code == 3
    assert "letter.doc" in outcome.err


def test_audit_of_an_empty_folder_is_empty(run, model, tmp_path):
    (tmp_path / "none").mkdir()
    assert run("audit", tmp_path / "none", "--json").json["tokens"] == 0
