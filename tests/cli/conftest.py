"""Run commands in this process, with an embedder of words instead of a model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from reference_collection import WordEmbedder
from unabridged.cli import main, opening


class WordModel(WordEmbedder):
    """What `audit` asks of a model besides."""

    max_length = 7


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def json_lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A user with nothing yet, in an empty folder."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.setenv("UNABRIDGED_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("UNABRIDGED_COLLECTION", raising=False)
    monkeypatch.chdir(here)
    return tmp_path / "home"


@pytest.fixture
def model(monkeypatch):
    """The embedder behind every command; it remembers what models and readers were asked for."""
    words = WordModel()
    words.asked, words.readers = [], []

    def load(name, made_with=None, *, reader=None, attention=None):
        words.asked.append(name)
        words.readers.append((reader, attention))
        return words

    monkeypatch.setattr(opening, "load_encoder", load)
    return words


@pytest.fixture
def run(capsys):
    """Call a command; gives its exit code and both streams."""

    def call(*arguments: object) -> Outcome:
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main([str(argument) for argument in arguments])
        streams = capsys.readouterr()
        return Outcome(int(left.value.code or 0), streams.out, streams.err)

    return call


@pytest.fixture
def documents(tmp_path):
    """A folder of three documents, a picture and an empty file."""
    folder = tmp_path / "documents"
    (folder / "deep").mkdir(parents=True)
    (folder / "lemons.txt").write_text("Lemons are sour.\nPeople plant lemon trees.\n" * 5)
    (folder / "ships.md").write_text("# Ships\n\nShips sail over the sea.\n")
    (folder / "deep" / "clocks.txt").write_text("Clocks tell the time of day.\n")
    (folder / "photo.png").write_bytes(b"\x89PNG\r\n\x1a\n\x00")
    (folder / "empty.txt").touch()
    return folder
