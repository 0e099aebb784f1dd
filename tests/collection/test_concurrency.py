import os
import subprocess
import sys
import threading

import pytest

from reference_collection import WordEmbedder, prose
from unabridged._errors import CollectionError
from unabridged.collection import Collection
from unabridged.collection.lock import LOCK_NAME, write_lock


def test_second_writer_is_refused_and_told_who_writes(collection):
    with (
        write_lock(collection.path),
        pytest.raises(CollectionError, match=f"being written by process {os.getpid()} on "),
    ):
        collection.sync([("a", "Text.")])
    assert collection.sync([("a", "Text.")]).added == ("a",)


@pytest.mark.parametrize("verb", ["sync", "remove", "compact"])
def test_every_write_needs_the_lock(collection, verb):
    collection.sync([("a", "Text.")])
    arguments = {"sync": [[]], "remove": ["a"], "compact": []}[verb]
    with write_lock(collection.path), pytest.raises(CollectionError, match="being written"):
        getattr(collection, verb)(*arguments)


def test_reading_needs_no_lock(collection):
    collection.sync([("a", "Lemons.")])
    with write_lock(collection.path), Collection.open(collection.path, WordEmbedder()) as reader:
        assert reader.search("lemons")[0].document == "a"
        assert reader.get("a").text == "Lemons."


def test_lock_of_another_process_holds_and_dies_with_it(collection):
    child = f"""
import sys
import filelock
with filelock.FileLock({str(collection.path / LOCK_NAME)!r}):
    print("locked", flush=True)
    sys.stdin.read()
"""
    command = [sys.executable, "-c", child]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"locked\n"
        with pytest.raises(CollectionError, match="being written by"):
            collection.sync([("a", "Text.")])
        process.kill()
        process.wait()
    assert collection.sync([("a", "Text.")]).added == ("a",)


def test_readers_see_whole_documents_while_another_handle_writes_and_compacts(collection):
    """Versions are deleted under the reader all the time, and every answer is still whole."""
    collection.sync([(f"d{i}", prose(i, 50)) for i in range(5)])
    problems, done = [], threading.Event()

    def read():
        try:
            with Collection.open(collection.path, WordEmbedder()) as reader:
                while not done.is_set():
                    hits = reader.search(prose(2, 10), limit=99)
                    assert 4 <= len(hits) <= 6
                    assert all(len(hit.passages) == 3 for hit in hits)
                    assert all(len(reader.passages(hit.document)) == 4 for hit in hits[:2])
        except CollectionError as error:
            # A document that a search has just found may be gone when it is asked for.
            if "has no document" not in str(error):
                problems.append(error)
        except Exception as error:
            problems.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    for i in range(12):
        texts = [(f"d{i}", prose(100 + i, 50)), (f"d{i + 5}", prose(i + 5, 50))]
        collection.sync(texts, vanished="keep")
        collection.remove(f"d{i}")
        if i % 3 == 0:
            collection.compact()
    done.set()
    thread.join()
    assert not problems


@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
def test_tables_opened_around_a_commit_are_opened_again(collection, monkeypatch, mode):
    """Between the two a document was replaced: its old row is seen, its old passages are gone."""
    collection.sync([("a", "Lemons and oranges.")])
    with Collection.open(collection.path, WordEmbedder()) as reader:
        store, calls = reader._store, []

        def refresh_late():
            store.documents.checkout_latest()
            if not calls:
                collection.sync([("a", "Oranges.")])
            calls.append(1)
            store.passages.checkout_latest()
            return store.documents.version, store.passages.version

        monkeypatch.setattr(store, "refresh", refresh_late)
        [hit] = reader.search("oranges", mode=mode)
        assert [passage.text for passage in hit.passages] == ["Oranges"]
        assert len(calls) > 1


def test_handle_sees_what_another_handle_wrote(collection):
    with Collection.open(collection.path, WordEmbedder()) as other:
        assert other.search("lemons") == []
        collection.sync([("a", "Lemons.")])
        assert [hit.document for hit in other.search("lemons")] == ["a"]
        assert other.sync([("a", "Lemons.")]).unchanged == ("a",)
