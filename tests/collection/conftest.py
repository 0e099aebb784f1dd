import pytest

from reference_collection import WordEmbedder
from unabridged.collection import Collection


@pytest.fixture
def embedder():
    return WordEmbedder()


@pytest.fixture
def collection(tmp_path, embedder):
    with Collection.open(tmp_path / "collection", embedder) as opened:
        yield opened


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "folder"
    path.mkdir()
    return path
