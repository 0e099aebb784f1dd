"""The folder beside the new model in which it is made, and which an interrupted run leaves."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from unabridged._errors import DocumentError, ModelError
from unabridged.collection.documents import document_id, read_document, walk
from unabridged.training.corpus import Corpus, Tokenizer
from unabridged.training.errors import TrainingError

__all__ = ["Workplace"]

Failures = tuple[tuple[str, str], ...]

_ASKED, _READ, _CORPUS = "asked.json", "read.json", "corpus"


class Workplace:
    """A hidden folder beside `out`, with what one adaptation needs and has done.

    Args:
        out: the folder of the new model, which must not exist.

    Raises:
        ModelError: it does.
    """

    def __init__(self, out: str | os.PathLike[str]) -> None:
        self.out = Path(out).expanduser().absolute()
        if self.out.exists():
            raise ModelError(
                f"adapt: {self.out} exists already and is left as it is; name a new folder, or "
                "remove that one first."
            )
        self.folder = self.out.parent / f".{self.out.name}.adapting"

    @property
    def extended(self) -> Path:
        """Where the longer model is put, if the model has to be extended."""
        return self.folder / "extended"

    @property
    def run(self) -> Path:
        """The folder of the training loop."""
        return self.folder / "run"

    @property
    def is_begun(self) -> bool:
        """Whether an earlier run left something to be continued."""
        return (self.folder / _ASKED).exists()

    def claim(self, asked: Mapping[str, Any]) -> None:
        """Begin, or continue what was asked for in the same words.

        Raises:
            TrainingError: an unfinished adaptation lies here, and it is another one.
        """
        path = self.folder / _ASKED
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            _write_json(path, asked)
            return
        known = json.loads(path.read_text(encoding="utf-8"))
        differing = [name for name in asked if known.get(name) != asked[name]]
        if differing:
            name = differing[0]
            raise TrainingError(
                f"adapt: {self.folder} holds an unfinished adaptation whose {name} is "
                f"{known.get(name)}, and now it is {asked[name]}; ask for the same to continue it, "
                "or remove that folder to begin anew."
            )

    def leave(self) -> None:
        """Remove the folder, unless a training has begun in it."""
        if not self.run.exists():
            shutil.rmtree(self.folder, ignore_errors=True)

    def documents(self, source: Path, tokenizer: Tokenizer) -> tuple[Corpus, Failures]:
        """All documents below a folder as tokens; read once, whatever changes there later.

        Raises:
            DocumentError: not one could be read.
        """
        record = self.folder / _READ
        if not record.exists():
            failed: list[tuple[str, str]] = []
            Corpus.write(self.folder / _CORPUS, _texts(source, failed), tokenizer)
            _write_json(record, failed)
        corpus = Corpus.open(self.folder / _CORPUS)
        failures = tuple((name, why) for name, why in json.loads(record.read_text("utf-8")))
        if not len(corpus):
            raise DocumentError(
                f"adapt: {source} holds no document that can be read"
                + (f" ({failures[0][0]}: {failures[0][1]})" if failures else "")
                + "; name the folder that holds your documents."
            )
        return corpus, failures


def _texts(source: Path, failed: list[tuple[str, str]]) -> Iterator[str]:
    for path in [source] if source.is_file() else walk(source):
        try:
            text = read_document(path, source).text
        except DocumentError as error:
            failed.append((document_id(path, source), str(error)))
            continue
        yield text


def _write_json(path: Path, value: object) -> None:
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    unfinished.replace(path)
