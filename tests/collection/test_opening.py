import json

import pytest

from reference_collection import WordEmbedder
from unabridged._errors import CollectionError
from unabridged.collection import Collection
from unabridged.collection.manifest import FILE_NAME


def rewrite(collection, **fields):
    file = collection.path / FILE_NAME
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))


def test_collection_made_with_another_model_is_refused_saying_what_differs(collection):
    other = WordEmbedder(passage=17, model="other words", reader="windows")
    with pytest.raises(CollectionError) as caught:
        Collection.open(collection.path, other)
    message = str(caught.value)
    assert "made with model 'words', passage '13', reader 'unset'" in message
    assert "this encoder has model 'other words', passage '17', reader 'windows'" in message


def test_collection_of_a_newer_program_is_refused(collection):
    rewrite(collection, schema_version=99, something_new=True)
    with pytest.raises(CollectionError, match=r"schema version 99 .* upgrade unabridged"):
        Collection.open(collection.path, WordEmbedder())


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"schema_version": 1}'])
def test_damaged_manifest_is_refused(collection, damage):
    (collection.path / FILE_NAME).write_text(damage)
    with pytest.raises(CollectionError, match="is not a readable description"):
        Collection.open(collection.path, WordEmbedder())


def test_missing_table_is_refused(collection):
    import shutil

    shutil.rmtree(collection.path / "passages.lance")
    with pytest.raises(CollectionError, match=r"the tables of .* cannot be read"):
        Collection.open(collection.path, WordEmbedder())


def test_missing_collection_is_made_or_refused_as_asked(tmp_path):
    with pytest.raises(CollectionError, match="there is no collection at"):
        Collection.open(tmp_path / "none", WordEmbedder(), if_missing="refuse")
    with pytest.raises(CollectionError, match="there is no collection at"):
        Collection.open(tmp_path / "none")
    assert not (tmp_path / "none").exists()
    assert len(Collection.open(tmp_path / "none", WordEmbedder())) == 0


def test_folder_of_other_things_is_not_taken_over(tmp_path):
    (tmp_path / "thesis.txt").write_text("My only copy.")
    with pytest.raises(CollectionError, match=r"holds other things \(such as thesis.txt\)"):
        Collection.open(tmp_path, WordEmbedder())
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.txt"]


def test_file_in_place_of_a_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(CollectionError, match="cannot be made or read"):
        Collection.open(tmp_path / "file", WordEmbedder())


def test_process_that_died_while_making_a_collection_leaves_no_obstacle(tmp_path):
    with Collection.open(tmp_path / "c", WordEmbedder()) as collection:
        (collection.path / FILE_NAME).unlink()
    with Collection.open(tmp_path / "c", WordEmbedder()) as collection:
        assert collection.sync([("a", "Text.")]).added == ("a",)


def test_collection_opens_with_what_it_was_made_with(collection):
    collection.sync([("a", "Text.")])
    with Collection.open(str(collection.path), WordEmbedder()) as again:
        info = again.info()
        assert (info.documents, info.passages, info.tokens) == (1, 1, 1)
        assert info.fingerprint == WordEmbedder().fingerprint
        assert again.get("a").text == "Text."


def test_moved_collection_opens(collection, tmp_path):
    collection.sync([("a", "Text.")])
    moved = collection.path.rename(tmp_path / "moved")
    with Collection.open(moved, WordEmbedder()) as again:
        assert again.search("text", mode="lexical")[0].document == "a"
