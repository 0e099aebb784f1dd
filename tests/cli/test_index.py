"""`unabridged index` does what it says, says what it did, and can be stopped."""

from __future__ import annotations

import pytest
import typer

from unabridged.attention.exact import Exact
from unabridged.cli import opening
from unabridged.encoder import Chunks, Full


def test_index_writes_beside_the_documents_and_reports(run, model, documents):
    outcome = run("index", documents)
    assert outcome.code == 0
    assert "3 new, 0 changed, 0 unchanged, 0 removed" in outcome.out
    assert "all of them" in outcome.out
    assert "photo.png is binary" in outcome.out
    assert (documents / ".unabridged" / "collection.json").exists()


def test_index_reads_only_what_is_new_or_changed(run, model, documents):
    run("index", documents)
    (documents / "new.txt").write_text("Apples.")
    (documents / "ships.md").write_text("Boats.")
    (documents / "lemons.txt").unlink()
    report = run("index", documents, "--json").json
    assert (report["added"], report["changed"]) == (["new.txt"], ["ships.md"])
    assert (report["unchanged"], report["removed"]) == (1, ["lemons.txt"])
    assert report["tokens_read"] == report["tokens_total"] == 2


def test_index_keeps_what_has_vanished_if_asked(run, model, documents):
    run("index", documents)
    (documents / "lemons.txt").unlink()
    assert run("index", documents, "--keep", "--json").json["removed"] == []


def test_a_document_that_cannot_be_read_gives_exit_code_3_and_a_reason(run, model, documents):
    (documents / "bad.txt").write_bytes(b"\x00\x01")
    (documents / "letter.doc").write_bytes(b"words")
    outcome = run("index", documents)
    assert outcome.code == 3
    assert "Could not be read: 2" in outcome.out
    assert "bad.txt" in outcome.out
    assert "save it as .docx" in outcome.out
    assert "3 new" in outcome.out


def test_failures_and_files_without_text_are_all_in_the_json(run, model, documents):
    (documents / "bad.txt").write_bytes(b"\x00\x01")
    report = run("index", documents, "--json").json
    assert [failure["id"] for failure in report["failed"]] == ["bad.txt"]
    assert {skipped["id"] for skipped in report["skipped"]} == {"photo.png", "empty.txt"}


def test_many_files_without_text_are_counted_by_kind(run, model, documents):
    for number in range(7):
        (documents / f"{number}.zip").write_bytes(b"PK\x00")
    assert "9 files (7 .zip, 1 .txt, 1 .png)" in (out := run("index", documents).out) or out


def test_an_interrupted_index_keeps_what_was_finished_and_says_so(run, model, documents):
    read = model.read_many

    def read_two(texts, **options):
        for number, reading in enumerate(read(texts, **options)):
            if number == 2:
                raise KeyboardInterrupt
            yield reading

    model.read_many = read_two
    outcome = run("index", documents)
    assert outcome.code == 130
    assert "are kept in" in outcome.err
    assert "the same command goes on" in outcome.err
    model.read_many = read
    assert run("index", documents).code == 0
    assert run("list", "--quiet").out.count("100%") == 3


def test_results_go_to_stdout_and_nothing_else_does(run, model, documents):
    assert run("index", documents, "--json").out.count("\n") == 1
    assert run("index", documents).err == ""


def test_names_that_look_like_markup_are_shown_as_they_are(run, model, documents):
    (documents / "[bold]a[red].txt").write_text("Red apples.")
    (documents / "[red]b[bold].doc").write_bytes(b"words")
    assert "[red]b[bold].doc" in run("index", documents).out
    assert "[bold]a[red].txt" in run("list").out
    assert "[bold]a[red].txt:1" in run("search", "apples").out


@pytest.mark.parametrize("arguments", [["index"], ["index", "nowhere"], ["index", ".", "--wrong"]])
def test_wrong_usage_gives_exit_code_2(run, arguments):
    outcome = run(*arguments)
    assert outcome.code == 2
    assert outcome.out == ""


def test_an_empty_folder_is_an_error_and_leaves_the_collection_alone(run, model, documents):
    run("index", documents, "--into", "kept")
    for path in documents.rglob("*.*"):
        if path.is_file():
            path.unlink()
    (documents / "deep").rmdir()
    outcome = run("index", documents, "--into", "kept")
    assert outcome.code == 1
    assert "Error: sync" in outcome.err
    assert len(run("list", "--in", "kept", "--json").json_lines) == 3


def test_the_model_of_a_collection_is_remembered(run, model, documents, tmp_path):
    run("index", documents, "--model", "owner/name")
    run("index", documents)
    run("search", "lemons")
    assert model.asked == ["owner/name"] * 3


def test_index_hands_reader_and_attention_on(run, model, documents):
    run("index", documents, "--reader", "full:126", "--attention", "exact")
    assert model.readers == [("full:126", "exact")]


def test_a_reader_is_parsed_or_refused_with_what_is_wanted():
    assert opening.parse_reader("full:126") == Full(passage=126)
    assert opening.parse_reader("full") == Full()
    assert opening.parse_reader("chunks:99") == Chunks(passage=99)
    for wrong in ("fool", "full:x", "full:0"):
        with pytest.raises(typer.BadParameter, match="wanted chunks, windows, full or truncate"):
            opening.parse_reader(wrong)


def test_a_collection_is_opened_with_the_reader_and_attention_that_made_it(run, documents):
    run("index", documents, "--reader", "chunks:37", "--attention", "exact")
    again = opening.collection_with_encoder(str(documents / ".unabridged"), None)
    encoder = again._encoder
    assert encoder.reader == Chunks(passage=37)
    assert encoder.attention == Exact()
