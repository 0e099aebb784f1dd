import shutil

import numpy as np
import pytest

from reference_collection import WordEmbedder, prose
from unabridged._errors import CollectionError
from unabridged.collection import Collection
from unabridged.collection import rows as rows_module
from unabridged.collection.documents import Document

TEXTS = {"lemons": "Lemons are sour.", "ships": "Ships sail at dawn.", "night": "Night falls."}


def write(folder, texts):
    for name, text in texts.items():
        path = folder / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def ids(collection):
    return [summary.id for summary in collection.list()]


def test_first_sync_adds_every_file(collection, folder):
    write(folder, TEXTS)
    report = collection.sync(folder)
    assert report.added == ("lemons.txt", "night.txt", "ships.txt")
    assert (report.changed, report.removed, report.failed) == ((), (), ())
    assert report.coverage.share == 1.0
    assert report.tokens == 9
    assert collection.get("ships.txt").text == TEXTS["ships"]


def test_second_sync_of_the_same_costs_no_encoding(collection, embedder, folder):
    write(folder, TEXTS)
    collection.sync(folder)
    read, asked = len(embedder.texts_read), len(embedder.queries_read)
    report = collection.sync(folder)
    assert report.unchanged == ("lemons.txt", "night.txt", "ships.txt")
    assert (len(embedder.texts_read), len(embedder.queries_read)) == (read, asked)


def test_touched_but_equal_file_is_unchanged(collection, embedder, folder):
    write(folder, TEXTS)
    collection.sync(folder)
    read = len(embedder.texts_read)
    write(folder, TEXTS)
    collection.sync(folder)
    assert len(embedder.texts_read) == read


def test_changed_file_is_replaced_and_only_it_is_read(collection, embedder, folder):
    write(folder, TEXTS)
    collection.sync(folder)
    read = len(embedder.texts_read)
    write(folder, {"lemons": "Oranges are sweet."})
    report = collection.sync(folder)
    assert report.changed == ("lemons.txt",)
    assert embedder.texts_read[read:] == ["Oranges are sweet."]
    assert not collection.search("sour", mode="lexical")
    assert collection.search("oranges", mode="lexical")[0].document == "lemons.txt"


def test_change_of_equal_size_and_time_is_seen(collection, folder):
    import os

    write(folder, {"a": "one two"})
    status = (folder / "a.txt").stat()
    collection.sync(folder)
    write(folder, {"a": "two one"})
    os.utime(folder / "a.txt", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert collection.sync(folder).changed == ("a.txt",)


def test_vanished_file_is_removed(collection, folder):
    write(folder, TEXTS)
    collection.sync(folder)
    (folder / "night.txt").unlink()
    assert collection.sync(folder).removed == ("night.txt",)
    assert ids(collection) == ["lemons.txt", "ships.txt"]


def test_vanished_file_is_kept_on_request(collection, folder):
    write(folder, TEXTS)
    collection.sync(folder)
    (folder / "night.txt").unlink()
    assert collection.sync(folder, vanished="keep").removed == ()
    assert len(ids(collection)) == 3


def test_unknown_policy_is_refused(collection):
    with pytest.raises(ValueError, match="vanished is 'maybe'; choose one of remove, keep"):
        collection.sync([], vanished="maybe")


def test_sync_of_one_folder_leaves_documents_of_another(collection, tmp_path):
    for name in ("first", "second"):
        write(tmp_path / name, {f"{name}/note": f"The {name} note."})
        collection.sync(tmp_path / name)
    assert ids(collection) == ["first/note.txt", "second/note.txt"]


def test_equal_names_in_two_folders_are_two_documents(collection, tmp_path):
    for name in ("first", "second"):
        write(tmp_path / name, {"note": f"The {name} note."})
        collection.sync(tmp_path / name)
    texts = {collection.get(id).text for id in ids(collection)}
    assert texts == {"The first note.", "The second note."}
    assert collection.sync(tmp_path / "second").unchanged == (str(tmp_path / "second/note.txt"),)


def test_moved_folder_costs_no_encoding(collection, embedder, folder, tmp_path):
    write(folder, TEXTS)
    collection.sync(folder)
    read = len(embedder.texts_read)
    shutil.move(folder, tmp_path / "it's elsewhere")
    report = collection.sync(tmp_path / "it's elsewhere")
    assert len(report.unchanged) == 3
    assert len(embedder.texts_read) == read
    assert collection.get("ships.txt").summary.path == str(tmp_path / "it's elsewhere/ships.txt")
    assert collection.sync(tmp_path / "it's elsewhere").removed == ()


def test_pairs_files_and_documents_may_be_mixed(collection, folder):
    write(folder, {"note": "From a file."})
    document = Document("made", "Page one. Page two.", page_starts=(0, 10), metadata={"by": "me"})
    report = collection.sync([("pair", "From a pair."), folder / "note.txt", document])
    assert set(report.added) == {"pair", str(folder / "note.txt"), "made"}
    assert collection.get("made").page_starts == (0, 10)
    assert collection.get("made").summary.metadata == {"by": "me"}


def test_changed_metadata_is_a_change(collection):
    collection.sync([Document("a", "Text.", metadata={"year": "1999"})])
    report = collection.sync([Document("a", "Text.", metadata={"year": "2001"})])
    assert report.changed == ("a",)


def test_generator_is_read_lazily_and_its_total_is_unknown(collection):
    seen = []
    made = ((f"d{i}", prose(i, 30)) for i in range(5))
    report = collection.sync(made, progress=seen.append)
    assert len(report.added) == 5
    assert {snapshot.tokens_total for snapshot in seen} == {None}


def test_id_given_twice_is_reported(collection):
    report = collection.sync([("a", "First."), ("a", "Second.")])
    assert [(failure.id, failure.reason) for failure in report.failed] == [
        ("a", "is an id that came twice in one sync")
    ]
    assert collection.get("a").text == "First."


def test_bad_files_are_reported_and_the_rest_is_indexed(collection, folder):
    write(folder, {"good": "All is well.", "empty": ""})
    (folder / "broken.pdf").write_bytes(b"%PDF-1.4 nothing")
    (folder / "picture.png").write_bytes(bytes(range(256)))
    report = collection.sync(folder)
    assert report.added == ("good.txt",)
    assert [failure.id for failure in report.failed] == ["broken.pdf"]
    assert {failure.id for failure in report.skipped} == {"empty.txt", "picture.png"}
    assert all(failure.reason for failure in report.failed + report.skipped)


def test_file_that_became_unreadable_keeps_its_older_version(collection, folder):
    write(folder, TEXTS)
    collection.sync(folder)
    (folder / "ships.txt").write_bytes(b"\x00\x01\x02" * 500)
    report = collection.sync(folder)
    assert [failure.id for failure in report.failed] == ["ships.txt"]
    assert report.removed == ()
    assert collection.get("ships.txt").text == TEXTS["ships"]


def test_file_that_became_empty_is_removed(collection, folder):
    write(folder, TEXTS)
    collection.sync(folder)
    write(folder, {"ships": ""})
    assert collection.sync(folder).removed == ("ships.txt",)


def test_text_without_a_word_is_skipped(collection):
    report = collection.sync([("blank", " \n "), ("none", ""), ("some", "x")])
    assert report.added == ("some",)
    assert [failure.id for failure in report.skipped] == ["none", "blank"]


def test_empty_folder_is_refused_and_removes_nothing(collection, folder):
    write(folder, TEXTS)
    collection.sync(folder)
    for path in folder.iterdir():
        path.unlink()
    with pytest.raises(CollectionError, match="holds no files"):
        collection.sync(folder)
    assert len(ids(collection)) == 3


def test_collection_inside_the_folder_does_not_read_itself(folder, embedder):
    write(folder, TEXTS)
    with Collection.open(folder / "index", embedder) as collection:
        report = collection.sync(folder)
        assert len(report.added) == 3
        assert not report.failed + report.skipped


def test_missing_folder_is_refused(collection, tmp_path):
    with pytest.raises(CollectionError, match="does not exist"):
        collection.sync(tmp_path / "nowhere")


def test_offsets_lines_and_pages_point_into_the_text(collection):
    text = "\n".join(prose(i, 40) for i in range(3)) + "\n🍋 naïve e\u0301 東京 end"
    pages = (0, text.index("\n", 200) + 1, len(text) - 12)
    collection.sync([Document("a", text, page_starts=pages)])
    stored = collection.passages("a")
    assert len(stored) > 5
    for passage in stored:
        start, end = passage.chars
        assert text[start:end] == passage.text
        assert passage.line == text[:start].count("\n") + 1
        assert passage.line_end == text[: end - 1].count("\n") + 1
        assert passage.page == sum(page <= start for page in pages)


def test_stored_vectors_are_the_readings_to_float16(collection, embedder):
    text = prose(5, 200)
    collection.sync([("a", text)])
    stored = np.stack([passage.vector for passage in collection.passages("a")])
    np.testing.assert_array_equal(stored, embedder.read(text).vectors.astype(np.float16))


def test_document_longer_than_a_batch_is_stored_whole(collection, embedder, monkeypatch):
    monkeypatch.setattr(rows_module, "ROWS_A_BATCH", 7)
    text = prose(5, 600)
    collection.sync([("long", text), ("short", "A few words.")])
    stored = collection.passages("long")
    assert len(stored) == len(embedder.read(text)) > 40
    assert [passage.tokens[0] for passage in stored] == list(range(0, 600, 13))


def test_vector_that_float16_cannot_hold_is_refused(tmp_path):
    class Broken(WordEmbedder):
        def vector(self, words):
            return np.full(self.dimension, 1e6)

    with Collection.open(tmp_path / "broken", Broken()) as collection:
        with pytest.raises(CollectionError, match="a has vectors that are not finite numbers"):
            collection.sync([("a", "word")])
        assert ids(collection) == []


def test_progress_counts_tokens_and_estimates_the_total(collection, folder):
    write(folder, {f"d{i:02}": prose(i, 100) for i in range(11)})
    seen = []
    collection.sync(folder, progress=seen.append)
    reading = [snapshot for snapshot in seen if snapshot.phase == "reading"]
    assert [s.tokens for s in reading] == sorted(s.tokens for s in reading)
    assert reading[0].documents_total == 11
    assert all(s.tokens_total >= s.tokens for s in reading)
    middle = next(s for s in reading if s.documents == 5)
    assert middle.tokens_total == pytest.approx(1100, rel=0.1)
    assert middle.seconds_left >= 0
    assert (reading[-1].documents, reading[-1].tokens, reading[-1].tokens_total) == (11, 1100, 1100)


def test_callback_that_raises_stops_the_sync_and_damages_nothing(collection):
    def stop(snapshot):
        if snapshot.documents == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        collection.sync([(f"d{i}", prose(i)) for i in range(5)], progress=stop)
    report = collection.sync([(f"d{i}", prose(i)) for i in range(5)])
    assert len(report.added) + len(report.unchanged) == 5


def test_remove_takes_documents_and_passages_away(collection):
    collection.sync(list(TEXTS.items()))
    assert collection.remove("ships") == ("ships",)
    assert ids(collection) == ["lemons", "night"]
    assert not collection.search("sail dawn", mode="lexical")
    assert collection.info().passages == 2
    with pytest.raises(CollectionError, match="has no document 'ships'"):
        collection.get("ships")


def test_remove_of_an_unknown_id_removes_nothing(collection):
    collection.sync(list(TEXTS.items()))
    with pytest.raises(CollectionError, match="has no document 'whales'"):
        collection.remove(["ships", "whales"])
    assert len(collection) == 3


def test_what_the_reader_left_out_is_reported(tmp_path):
    class Short(WordEmbedder):
        def read(self, text):
            from dataclasses import replace

            from unabridged._reading import Coverage

            reading = super().read(text)
            total = len(reading.token_ids)
            unread = ((30, len(text)),) if total > 5 else ()
            return replace(reading, coverage=Coverage(min(5, total), total, unread))

    with Collection.open(tmp_path / "short", Short()) as collection:
        report = collection.sync([("long", prose(1, 20)), ("brief", "Four words are here.")])
        assert report.incomplete == ("long",)
        assert (report.coverage.tokens_read, report.coverage.tokens_total) == (9, 24)
        assert collection.get("long").summary.coverage.unread == ((30, len(prose(1, 20))),)
