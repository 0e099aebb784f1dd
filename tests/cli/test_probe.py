"""`unabridged probe` compares readers, keeps the winner, and touches nothing that is indexed."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from transformers import AutoModel

from reference_collection import prose
from tiny_models import CONFIGS, wordpiece
from unabridged.cli import probing
from unabridged.collection import Collection, Settings
from unabridged.probing import Table
from unabridged.probing.verdict import Verdict

QUICK = ("--documents", 12, "--longest", 256, "-q")


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "bert"
    torch.manual_seed(0)
    tokenizer = wordpiece()
    AutoModel.from_config(CONFIGS["bert"](len(tokenizer))).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    for n in range(13):
        (folder / f"{n}.txt").write_text(f"Subject number {n}\n{prose(n, 60)}")
    return folder


@pytest.fixture
def folder(texts, tmp_path):
    copy = tmp_path / "texts"
    copy.mkdir()
    for path in texts.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    return copy


@pytest.fixture
def quick(monkeypatch):
    """Two longer tables are enough where it is not about tables."""
    few = partial(probing.ways, tables=(Table("hierarchical", 0.4), Table("recurrent")))
    monkeypatch.setattr(probing, "ways", few)


@pytest.fixture
def winner(monkeypatch):
    """Lets a test say who wins: random models all read alike."""

    def choose(name: str) -> None:
        def evaluate(*arguments, **options):
            outcome = REAL(*arguments, **options)
            verdict = Verdict(
                name, outcome.verdict.incumbent, outcome.verdict.gains, "it is told so"
            )
            return type(outcome)(outcome.documents, outcome.queries, outcome.standings, verdict)

        monkeypatch.setattr(probing, "evaluate", evaluate)

    return choose


REAL = probing.evaluate
HIERARCHICAL = "full, hierarchical 0.4"


def test_probe_shows_every_reader_draws_and_writes_the_verdict(run, bert, folder):
    outcome = run("probe", folder, "--model", bert, "--plot", "a.svg", *QUICK[:-1])
    assert outcome.code == 0
    for name in ("truncate", "chunks", "windows", HIERARCHICAL, "full, grouped"):
        assert name in outcome.out
    assert "about 12 documents" in outcome.out
    assert "Take chunks: no reader is clearly better" in outcome.out
    assert "Written to" in outcome.err
    assert "<svg" in Path("a.svg").read_text()
    assert Settings.load(folder / ".unabridged").reader["reader"] == "chunks"


def test_probe_as_json(run, quick, bert, folder):
    outcome = run("probe", folder, "--model", bert, "--json", *QUICK)
    assert outcome.err == ""
    found = outcome.json
    assert found["verdict"]["winner"] == "chunks"
    assert found["documents"] == 12
    assert {s["name"]: s["passages"] for s in found["standings"]}["truncate"] == 1
    assert found["settings"]["base"] == str(bert)
    assert set(found["standings"][0]["by_kind"]) == {"title", "sentence", "needle"}


def test_equal_seeds_find_the_same(run, quick, bert, folder):
    def figures(seed):
        found = run("probe", folder, "--model", bert, "--json", "--seed", seed, *QUICK).json
        return [(s["name"], s["recall"], s["by_quarter"]) for s in found["standings"]]

    assert figures(1) == figures(1)
    assert figures(1) != figures(2)


def test_a_later_index_reads_as_the_winner_does_and_moves_with_its_folder(
    run, quick, bert, folder, winner
):
    winner(HIERARCHICAL)
    assert run("probe", folder, "--model", bert, *QUICK).code == 0
    assert run("index", folder).code == 0
    place = folder / ".unabridged"
    assert json.loads((place / "collection.json").read_text())["fingerprint"]["reader"] == "full"
    wanted = Settings.load(place)
    assert json.loads((place / "model.json").read_text()) == {"model": wanted.model}
    assert run("index", folder).code == 0
    winner("full, recurrent")
    assert run("probe", folder, *QUICK).code == 0
    assert Settings.load(place).model != wanted.model
    moved = folder.rename(folder.with_name("moved"))
    assert run("search", "subject", "--in", moved / ".unabridged", "-q").code == 0


def test_what_is_indexed_stays_and_is_made_anew_only_when_asked(run, quick, bert, folder, winner):
    place = folder / ".unabridged"
    (folder / "short.txt").write_text("A few words.")
    reader = "chunks:70"
    assert run("index", folder, "--model", bert, "--reader", reader).code == 0
    before = (place / "collection.json").read_bytes()
    winner(HIERARCHICAL)
    outcome = run("probe", folder, *QUICK[:-1])
    assert outcome.code == 0, outcome.err
    assert (place / "collection.json").read_bytes() == before
    outcome = run("index", folder)
    assert "`index --anew` reads everything by it" in outcome.err
    assert (place / "collection.json").read_bytes() == before
    report = run("index", folder, "--anew", "--json").json
    assert len(report["added"]) == 14
    assert report["collection"] == str(place)
    assert json.loads((place / "collection.json").read_text())["fingerprint"]["reader"] == "full"
    assert sorted(path.name for path in folder.glob(".*")) == [".unabridged"]
    assert "--anew" not in run("index", folder).err


@pytest.mark.parametrize("by", ["options", "settings"])
def test_an_interrupted_index_anew_leaves_the_old_one_and_goes_on(
    run, quick, bert, folder, winner, monkeypatch, by
):
    place = folder / ".unabridged"
    options = ("--model", bert, "--reader", "chunks:60") if by == "options" else ()
    run("index", folder, "--model", bert, "--reader", "chunks:70")
    if by == "settings":
        winner(HIERARCHICAL)
        run("probe", folder, *QUICK)
    before = (place / "collection.json").read_bytes()
    sync = Collection.sync

    def stop(self, source, **given):
        sync(self, folder / "3.txt")
        raise KeyboardInterrupt

    monkeypatch.setattr(Collection, "sync", stop)
    outcome = run("index", folder, "--anew", *options)
    assert outcome.code == 130
    assert "the same command goes on" in outcome.err
    assert (place / "collection.json").read_bytes() == before
    monkeypatch.setattr(Collection, "sync", sync)
    outcome = run("index", folder, "--anew", *options, "--json")
    assert len(outcome.json["added"]) == 13
    made_with = json.loads((place / "collection.json").read_text())["fingerprint"]
    assert made_with["reader"] == ("chunks" if by == "options" else "full")
    assert sorted(path.name for path in folder.glob(".*")) == [".unabridged"]


def test_an_index_anew_never_loses_documents_from_elsewhere(run, quick, bert, folder, tmp_path):
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "a.txt").write_text("A few words.")
    options = ("--into", tmp_path / "both", "--model", bert, "--reader", "chunks:70")
    for source in (folder, tmp_path / "more"):
        assert run("index", source, *options).code == 0
    outcome = run("index", folder, *options, "--anew")
    assert outcome.code == 1
    assert "would be lost" in outcome.err
    assert len(run("list", "--in", tmp_path / "both", "--json").json_lines) == 14
    assert run("index", folder, "--anew", "--keep").code == 2


def test_a_collection_can_be_probed_without_its_files(run, quick, bert, folder):
    run("index", folder, "--model", bert, "--reader", "windows:70")
    place = folder / ".unabridged"
    for path in folder.glob("*.txt"):
        path.unlink()
    found = run("probe", place, "--json", *QUICK).json
    assert found["verdict"]["incumbent"] == "as indexed now"
    assert found["verdict"]["winner"] == "as indexed now"
    assert found["settings"]["reader"]["reader"] == "windows"
    assert found["settings"]["model"] == str(bert)


def test_another_model_has_to_beat_what_is_indexed(run, quick, bert, folder, tmp_path):
    for n in range(13):
        (folder / f"{n}.txt").write_text(f"Subject number {n}\n{prose(n, 200)}")
    run("index", folder, "--model", bert, "--reader", "chunks:78")
    assert run("extend", bert, tmp_path / "longer", "--max-length", "2048").code == 0
    found = run("probe", folder, "--model", tmp_path / "longer", "--json", *QUICK).json
    names = [standing["name"] for standing in found["standings"]]
    assert names[-3:] == ["full", "full in one vector", "as indexed now"]
    assert found["verdict"]["incumbent"] == "as indexed now"


@pytest.mark.parametrize(
    ("words", "count", "answer"),
    [
        (4, 13, "None of the 13 documents has more than the 78 tokens"),
        (60, 5, "Only 5 documents of 5 have more than the 78 tokens"),
        (0, 0, "no document with text"),
    ],
)
def test_a_folder_without_long_documents_gets_a_clear_answer(
    run, quick, bert, tmp_path, words, count, answer
):
    place = tmp_path / "texts"
    place.mkdir()
    for n in range(count):
        (place / f"{n}.txt").write_text(f"Subject {n}\n{prose(n, words)}")
    outcome = run("probe", place, "--model", bert)
    assert outcome.code == 0
    assert answer in outcome.out
    assert "Nothing was written" in outcome.err
    assert run("probe", place, "--model", bert, "--json").json["verdict"] is None
    assert not (place / ".unabridged").exists()


def test_interrupted_in_the_first_round_says_so_and_writes_nothing(
    run, quick, bert, folder, monkeypatch
):
    def stop(*arguments, **options):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(probing, "hold", stop)
    outcome = run("probe", folder, "--model", bert)
    assert outcome.code == 130
    assert "nothing was written" in outcome.err
    assert not (folder / ".unabridged").exists()


def test_interrupted_later_shows_what_was_found_and_writes_nothing(
    run, quick, bert, folder, monkeypatch
):
    hold = probing.hold

    def stop(*arguments, **options):
        yield next(hold(*arguments, **options))
        raise KeyboardInterrupt

    monkeypatch.setattr(probing, "hold", stop)
    outcome = run("probe", folder, "--model", bert, *QUICK[:-1])
    assert outcome.code == 130
    assert "chunks" in outcome.out
    assert "what was found so far, and nothing was written" in outcome.err
    assert not (folder / ".unabridged").exists()


def test_documents_that_cannot_be_read_give_exit_code_3(run, quick, bert, folder):
    (folder / "letter.doc").write_bytes(b"words")
    outcome = run("probe", folder, "--model", bert, *QUICK[:-1])
    assert outcome.code == 3
    assert "Could not be read: letter.doc" in outcome.err


def test_damaged_settings_are_an_error_that_says_what_to_do(run, quick, bert, folder):
    (folder / ".unabridged").mkdir()
    (folder / ".unabridged" / "settings.json").write_text("{")
    outcome = run("index", folder)
    assert outcome.code == 1
    assert "run `unabridged probe` again" in outcome.err
