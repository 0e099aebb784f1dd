"""Which collection a command means."""

from __future__ import annotations

import pytest

from unabridged._errors import CollectionError
from unabridged.cli import places


def make(folder):
    folder.mkdir(parents=True)
    (folder / places.MANIFEST).write_text("{}")
    return folder


def test_a_name_is_no_path_and_a_path_is_no_name(home, tmp_path, monkeypatch):
    (tmp_path / "here" / "folder").mkdir()
    assert places.named("minutes") == home / "collections" / "minutes"
    for path in ("./minutes", "../minutes", "a/b", "/a", "folder"):
        assert "collections" not in places.named(path).parts


def test_the_variable_wins_over_the_folder_and_the_folder_over_the_last(
    home, tmp_path, monkeypatch
):
    last, here = make(tmp_path / "last"), tmp_path / "here"
    places.remember(last)
    assert places.existing(None) == last
    near = make(here / ".unabridged")
    below = here / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert places.existing(None) == near
    make(home / "collections" / "chosen")
    monkeypatch.setenv("UNABRIDGED_COLLECTION", "chosen")
    assert places.existing(None) == home / "collections" / "chosen"
    assert places.existing(str(last)) == last


def test_no_collection_says_how_to_make_one(home, tmp_path):
    with pytest.raises(CollectionError, match="unabridged index FOLDER"):
        places.existing(None)
    with pytest.raises(CollectionError, match="--into minutes"):
        places.existing("minutes")
    places.remember(tmp_path / "gone")
    with pytest.raises(CollectionError, match="none was made"):
        places.existing(None)


def test_search_finds_what_index_made_last_from_anywhere(run, model, documents, home):
    run("index", documents, "--into", "minutes")
    assert (home / "collections" / "minutes").is_dir()
    assert not (documents / ".unabridged").exists()
    assert run("search", "lemons", "--json").json_lines[0]["document"] == "lemons.txt"


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
def test_every_platform_has_its_own_home(platform, monkeypatch, tmp_path):
    monkeypatch.delenv("UNABRIDGED_HOME")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setattr(places.sys, "platform", platform)
    assert places.home().name == "unabridged"
