"""Long documents are kept in an order of the seed's, short ones counted, broken ones reported."""

from __future__ import annotations

import pytest

from reference_collection import WordEmbedder, prose
from unabridged.collection import Collection
from unabridged.probing.gathering import gather, of_collection, of_folder


def count(text: str) -> int:
    return len(text.split())


@pytest.fixture
def folder(tmp_path):
    for n, words in enumerate((50, 150, 250, 350)):
        (tmp_path / f"{n}.txt").write_text(f"Subject {n}\n{prose(n, words)}")
    (tmp_path / "page.html").write_text(f"<title>Of pages</title><p>{prose(7, 450)}</p>")
    (tmp_path / "broken.doc").write_bytes(b"words")
    (tmp_path / "empty.txt").touch()
    return tmp_path


def test_only_long_documents_are_kept_and_the_rest_is_counted(folder):
    found = gather(of_folder(folder, seed=0), count, longer_than=160, at_most=1000)
    assert sorted(source.id for source in found.sources) == ["2.txt", "3.txt", "page.html"]
    assert (found.looked_at, found.cut) == (5, 0)
    assert found.longest == max(found.tokens)
    assert [id for id, _ in found.failed] == ["broken.doc"]


def test_a_title_in_the_file_is_taken(folder):
    found = gather(of_folder(folder, seed=0), count, longer_than=0, at_most=1000)
    assert {s.id: s.title for s in found.sources}["page.html"] == "Of pages"


def test_what_is_longer_is_cut_and_leaves_room_for_a_needle(folder):
    found = gather(of_folder(folder, seed=0), count, longer_than=160, at_most=300)
    assert found.cut == 2
    assert found.longest > 400
    assert all(count(source.text) <= 260 for source in found.sources if source.id != "2.txt")


def test_the_seed_alone_decides_the_order(folder):
    orders = {
        seed: [
            s.id
            for s in gather(of_folder(folder, seed=seed), count, longer_than=0, at_most=999).sources
        ]
        for seed in (0, 0, 1, 2, 3)
    }
    assert len({tuple(order) for order in orders.values()}) > 1
    again = gather(of_folder(folder, seed=0), count, longer_than=0, at_most=999)
    assert [source.id for source in again.sources] == orders[0]


def test_no_more_are_looked_at_than_wanted(folder):
    found = gather(of_folder(folder, seed=0), count, longer_than=0, at_most=999, most=2)
    assert len(found.sources) == found.looked_at == 2


def test_a_collection_gives_the_texts_that_its_folder_gives(folder, tmp_path):
    collection = Collection.open(tmp_path / ".c", WordEmbedder())
    collection.sync(folder)
    one = gather(of_folder(folder, seed=0), count, longer_than=160, at_most=999)
    other = gather(of_collection(collection, seed=0), count, longer_than=160, at_most=999)
    assert set(one.sources) == set(other.sources)
