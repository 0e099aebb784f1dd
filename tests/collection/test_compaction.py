import pytest

from reference_collection import prose

# Two tables, sixteen commits each before they are tidied, and a few of the last sync.
MOST_VERSIONS = 40


def sync_one_by_one(collection, number):
    most_versions = most_fragments = 0
    for i in range(number):
        # Every third is a change of an earlier document, every seventh a removal.
        id = f"d{i}" if i % 3 else f"d{i // 2}"
        collection.sync([(id, prose(i, 30))], vanished="keep")
        if i % 7 == 6:
            collection.remove(id)
        if i % 10 == 9 or i == number - 1:
            info = collection.info()
            most_versions = max(most_versions, info.versions)
            most_fragments = max(most_fragments, info.fragments)
    return most_versions, most_fragments


def files(collection):
    return sum(path.is_file() for path in collection.path.rglob("*"))


def test_versions_and_fragments_stay_bounded_after_fifty_small_syncs(collection):
    versions, fragments = sync_one_by_one(collection, 50)
    assert versions <= MOST_VERSIONS
    assert fragments <= MOST_VERSIONS
    assert files(collection) < 400


@pytest.mark.slow
def test_versions_and_fragments_stay_bounded_after_a_thousand_small_syncs(collection):
    versions, fragments = sync_one_by_one(collection, 1000)
    assert versions <= MOST_VERSIONS
    assert fragments <= MOST_VERSIONS
    assert files(collection) < 400
    word = prose(998, 30).split()[4]
    assert collection.search(word, mode="lexical")


def test_compact_leaves_one_fragment_and_one_version_a_table(collection):
    for i in range(9):
        collection.sync([(f"d{i}", prose(i))], vanished="keep")
    before = {summary.id: collection.passages(summary.id)[2].text for summary in collection.list()}
    collection.compact()
    info = collection.info()
    assert (info.versions, info.fragments) == (2, 2)
    assert {id: collection.passages(id)[2].text for id in before} == before


def test_removed_text_is_gone_from_every_search_and_from_the_index(collection):
    collection.sync([("secret", "Zanzibar and nothing else."), ("other", "Ships sail.")])
    collection.remove("secret")
    for mode in ("lexical", "dense", "hybrid"):
        hits = collection.search("Zanzibar", mode=mode)
        assert all(hit.document != "secret" for hit in hits)
    collection.compact()
    assert b"Zanzibar" not in b"".join(raw_bytes(collection))
    assert b"zanzibar" not in b"".join(raw_bytes(collection))


def test_compact_leaves_no_removed_row_in_a_large_file(collection):
    collection.sync([(f"d{i}", prose(i, 100)) for i in range(30)])
    collection.compact()
    collection.remove("d7")
    collection.compact()
    assert not list(collection.path.glob("*.lance/_deletions/*"))
    assert len(collection) == 29
    assert collection.search(prose(8, 100).split()[4], mode="lexical")


def test_removed_text_was_on_disk_before(collection):
    """Without this the test above could not fail."""
    collection.sync([("secret", "Zanzibar and nothing else."), ("other", "Ships sail.")])
    assert b"Zanzibar" in b"".join(raw_bytes(collection))


def raw_bytes(collection):
    return [path.read_bytes() for path in collection.path.rglob("*") if path.is_file()]
