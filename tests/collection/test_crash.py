import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from reference_collection import WordEmbedder, prose
from unabridged._errors import CollectionError
from unabridged.collection import Collection
from unabridged.collection import sync as sync_module
from unabridged.collection.store import Store

HERE = Path(__file__).parent


class Killed(BaseException):
    """Stands in for a death: nothing in the library may catch it."""


def contents(collection):
    """Everything a user can see, vectors included; two collections are equal if these are."""
    return {
        summary.id: (
            collection.get(summary.id).text,
            summary.content_hash,
            [
                (p.text, p.chars, p.tokens, p.line, p.page, p.vector.tobytes())
                for p in collection.passages(summary.id)
            ],
        )
        for summary in collection.list()
    }


def assert_nothing_left_over(collection):
    """No passage without its document, none twice."""
    rows = [
        key
        for batch in collection._store.scan_passages(["revision", "ordinal"])
        for key in zip(*(batch[name].to_pylist() for name in ("revision", "ordinal")), strict=True)
    ]
    assert len(rows) == len(set(rows)) == collection.info().passages


def first_half(number):
    return [(f"d{i}", prose(i)) for i in range(number)]


def second_half(number):
    """Some changed, some gone, some new."""
    return [(f"d{i}", prose(i + 50 * (i % 2))) for i in range(3, number + 4)]


@pytest.mark.parametrize("step", range(7))
def test_death_at_any_step_is_healed_by_the_next_sync(tmp_path, monkeypatch, step):
    monkeypatch.setattr(sync_module, "GROUP_CHARACTERS", 1_500)
    with Collection.open(tmp_path / "whole", WordEmbedder()) as whole:
        whole.sync(first_half(7))
        whole.sync(second_half(7))
        expected = contents(whole)

    with Collection.open(tmp_path / "killed", WordEmbedder()) as killed:
        killed.sync(first_half(7))
        before = contents(killed)
        with monkeypatch.context() as patch:
            die_at_step(killed._store, step, patch)
            with pytest.raises(Killed):
                killed.sync(second_half(7))

    with Collection.open(tmp_path / "killed", WordEmbedder()) as again:
        seen = contents(again)
        for id, content in seen.items():
            assert content in (before.get(id), expected.get(id)), "half a document is visible"
        assert set(seen) >= set(before) & set(expected), "a document was lost"
        report = again.sync(second_half(7))
        assert not report.failed
        assert contents(again) == expected
        assert_nothing_left_over(again)


def die_at_step(store, step, patch):
    """Let the write number `step`, counted over both tables, happen in part or not at all."""
    left = [step]

    def dying(write):
        def wrapped(*args, **kwargs):
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            return write(*args, **kwargs)

        return wrapped

    for table in (store.documents, store.passages):
        for name in ("add", "delete", "merge_insert", "optimize"):
            patch.setattr(table, name, dying(getattr(table, name)))


def run_child(folder, path, delay):
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(HERE / "kill_child.py"), str(folder), str(path), str(delay)]
    return subprocess.run(command, env=environment, check=False, capture_output=True).returncode


def kill_and_compare(tmp_path, *, kills, documents, longest):
    folder = tmp_path / "folder"
    folder.mkdir()
    for i in range(documents):
        (folder / f"d{i:03}.txt").write_text(prose(i, 200), encoding="utf-8")
    rng = np.random.default_rng(9)
    died = 0
    for _ in range(kills):
        died += run_child(folder, tmp_path / "killed", rng.uniform(0.02, longest)) == -9
        with Collection.open(tmp_path / "killed", WordEmbedder()) as collection:
            halfway = contents(collection)
        assert all(len(passages) == 16 for _, _, passages in halfway.values())
    assert died, "no child was killed, so nothing was tested"
    with Collection.open(tmp_path / "whole", WordEmbedder()) as whole:
        whole.sync(folder)
        expected = contents(whole)
    with Collection.open(tmp_path / "killed", WordEmbedder()) as killed:
        killed.sync(folder)
        assert contents(killed) == expected
        assert_nothing_left_over(killed)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no kill -9 on this system")
def test_killed_process_leaves_a_collection_that_finishes_equal(tmp_path):
    kill_and_compare(tmp_path, kills=2, documents=40, longest=0.6)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no kill -9 on this system")
def test_process_killed_twenty_times_leaves_a_collection_that_finishes_equal(tmp_path):
    kill_and_compare(tmp_path, kills=20, documents=300, longest=0.7)


def test_passages_without_a_document_are_invisible(collection):
    collection.sync([("kept", "Lemons are sour.")])
    with pytest.raises(Killed):
        _write_passages_only(collection)
    assert collection.search("zeppelin", mode="lexical") == []
    assert [hit.document for hit in collection.search("zeppelin", mode="dense")] == ["kept"]
    collection.compact()
    assert_nothing_left_over(collection)


def _write_passages_only(collection):
    def die(*args, **kwargs):
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collection._store.documents, "merge_insert", die)
        collection.sync([("lost", "Zeppelin.")], vanished="keep")


def test_document_whose_passages_were_lost_is_read_again(collection):
    collection.sync([("a", prose(1)), ("b", prose(2))])
    collection._store.passages.delete("document = 'a' AND ordinal = 3")
    report = collection.sync([("a", prose(1)), ("b", prose(2))])
    assert (report.changed, report.unchanged) == (("a",), ("b",))
    assert len(collection.passages("a")) == 7


@pytest.mark.parametrize("table", ["documents", "passages"])
def test_full_disk_is_said_plainly_and_loses_nothing(collection, monkeypatch, table):
    collection.sync([("old", "Lemons are sour.")])

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        method = "add" if table == "passages" else "merge_insert"
        patch.setattr(getattr(collection._store, table), method, full)
        with pytest.raises(CollectionError, match=r"No space left on device.*sync again"):
            collection.sync([("new", "Ships sail.")], vanished="keep")
    assert [summary.id for summary in collection.list()] == ["old"]
    assert collection.sync([("new", "Ships sail.")], vanished="keep").added == ("new",)


def test_disk_that_fills_while_whitening_keeps_the_documents(collection, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        with pytest.raises(CollectionError, match=r"whiten: the disk .* No space left"):
            collection.sync(first_half(12))
    assert len(collection) == 12
    assert collection.sync(first_half(12)).whitening.decision == "whitened"


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no limit on file sizes here")
def test_write_that_the_system_refuses_loses_nothing(tmp_path):
    child = f"""
import resource
from reference_collection import WordEmbedder, prose
from unabridged._errors import CollectionError
from unabridged.collection import Collection
collection = Collection.open({str(tmp_path / "c")!r}, WordEmbedder())
collection.sync([("old", prose(1))])
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
try:
    collection.sync([("new", prose(2, 20_000))], vanished="keep")
except CollectionError as error:
    print("refused:", error)
"""
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    command = [sys.executable, "-c", child]
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    assert done.stdout.startswith("refused: sync: the disk or the database refused"), done.stderr
    with Collection.open(tmp_path / "c", WordEmbedder()) as collection:
        assert [summary.id for summary in collection.list()] == ["old"]
        collection.sync([("new", prose(2, 2_000))], vanished="keep")
        assert len(collection) == 2
        assert_nothing_left_over(collection)


def test_interrupt_keeps_what_was_committed(collection, monkeypatch):
    monkeypatch.setattr(sync_module, "GROUP_CHARACTERS", 1_200)

    def interrupt(snapshot):
        if snapshot.documents == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        collection.sync(first_half(9), progress=interrupt)
    kept = len(collection)
    assert 0 < kept < 5
    report = collection.sync(first_half(9))
    assert (len(report.unchanged), len(report.added)) == (kept, 9 - kept)


def test_store_steps_are_in_the_order_that_the_guide_promises(collection, monkeypatch):
    steps = []
    for name in ("add", "delete"):
        table = collection._store.passages
        original = getattr(table, name)
        monkeypatch.setattr(
            table, name, lambda *a, _o=original, _n=name, **k: (steps.append(_n), _o(*a, **k))[1]
        )
    documents = collection._store.documents
    merge = documents.merge_insert
    monkeypatch.setattr(documents, "merge_insert", lambda key: (steps.append("row"), merge(key))[1])
    collection.sync([("a", "One.")])
    collection.sync([("a", "Two.")])
    assert steps == ["add", "row", "add", "row", "delete"]
    assert isinstance(collection._store, Store)
