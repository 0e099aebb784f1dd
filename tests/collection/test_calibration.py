import numpy as np
import pytest

from reference_collection import WordEmbedder, direction, prose
from unabridged._errors import CollectionError
from unabridged.collection import Collection
from unabridged.collection.calibration import FEWEST_PASSAGES
from unabridged.geometry.moments import Moments
from unabridged.geometry.whitening import Whitening


class RoundEmbedder(WordEmbedder):
    """Nothing dominates and nothing leans: there is nothing for whitening to mend."""

    def vector(self, words):
        total = sum((direction(word.lower(), self.dimension) for word in words), np.zeros(1))
        return np.resize(total, self.dimension)


def texts(start, stop):
    return [(f"d{i:03}", prose(i, 60)) for i in range(start, stop)]


def open_at(tmp_path, embedder=None):
    return Collection.open(tmp_path / "collection", embedder or WordEmbedder())


def test_vectors_that_lean_are_whitened(tmp_path):
    with open_at(tmp_path) as collection:
        record = collection.sync(texts(0, 40)).whitening
    assert record.decision == "whitened"
    assert record.mrr_whitened > record.mrr_raw + 0.05
    assert (collection.path / record.file).is_file()


def test_statistics_are_those_of_the_stored_vectors(tmp_path):
    with open_at(tmp_path) as collection:
        record = collection.sync(texts(0, 40)).whitening
        stored = [p.vector for s in collection.list() for p in collection.passages(s.id)]
    whitening = Whitening.load(collection.path / record.file)
    moments = Moments.of(np.stack(stored))
    assert whitening.count == record.passages == len(stored)
    np.testing.assert_allclose(whitening.mean, moments.mean, rtol=1e-6)
    assert np.linalg.norm(whitening.query_mean - whitening.mean) > 0.1


def test_too_few_passages_are_not_whitened(tmp_path):
    with open_at(tmp_path) as collection:
        record = collection.sync([("a", prose(1, 13 * (FEWEST_PASSAGES - 1)))]).whitening
    assert record.decision == "raw"
    assert "63 passages are too few" in record.reason
    assert not list(collection.path.glob("whitening-*"))


def test_whitening_that_does_not_help_is_declined_with_its_figures(tmp_path):
    with open_at(tmp_path, RoundEmbedder(dimension=61)) as collection:
        record = collection.sync(texts(0, 15)).whitening
    assert record.decision == "raw"
    assert record.mrr_whitened <= record.mrr_raw
    assert f"{record.mrr_whitened:.3f} whitened, {record.mrr_raw:.3f} raw" in record.reason


def test_statistics_are_kept_until_a_fifth_has_come(tmp_path):
    with open_at(tmp_path) as collection:
        first = collection.sync(texts(0, 40)).whitening
        assert collection.sync(texts(0, 47)).whitening == first
        second = collection.sync(texts(0, 49)).whitening
    assert second.passages == 49 * 5
    assert [file.name for file in collection.path.glob("whitening-*")] == [second.file]


def test_statistics_are_renewed_when_a_fifth_has_gone_or_changed(tmp_path):
    with open_at(tmp_path) as collection:
        first = collection.sync(texts(0, 40)).whitening
        assert collection.sync(texts(9, 40)).whitening.passages == 31 * 5
        other = [(id, prose(int(id[1:]) + 500, 60)) for id, _ in texts(9, 40)]
        assert collection.sync(other).whitening.file != first.file


def test_refit_encodes_no_document_again(tmp_path):
    embedder = WordEmbedder()
    with open_at(tmp_path, embedder) as collection:
        collection.sync(texts(0, 40))
        collection.sync(texts(0, 60))
    assert len(embedder.texts_read) == 60


def test_equal_collections_are_whitened_equally(tmp_path):
    kernels = []
    for name in ("one", "two"):
        with Collection.open(tmp_path / name, WordEmbedder()) as collection:
            record = collection.sync(texts(0, 30)).whitening
        kernels.append(Whitening.load(collection.path / record.file).kernel)
    np.testing.assert_array_equal(*kernels)


def test_lost_transform_is_said_and_mended_by_the_next_sync(tmp_path):
    with open_at(tmp_path) as collection:
        record = collection.sync(texts(0, 40)).whitening
        expected = collection.search(prose(3, 20), mode="dense")
        (collection.path / record.file).unlink()
        missing = pytest.raises(CollectionError, match="a file of the collection is missing")
        with missing, open_at(tmp_path) as other:
            other.search("anything", mode="dense")
        assert collection.sync(texts(0, 40)).whitening == record
        assert collection.search(prose(3, 20), mode="dense") == expected
