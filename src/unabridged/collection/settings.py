"""settings.json: how a collection shall be made, the next time it is made from nothing.

collection.json says what made the vectors that are there; this file says what somebody wants. A
collection that exists is never touched by it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from unabridged._errors import CollectionError
from unabridged.collection.manifest import replace_file

__all__ = ["MODEL_FILE", "MODEL_PREFIX", "SETTINGS_NAME", "Settings", "place_of_model", "reader_of"]

SETTINGS_NAME = "settings.json"
MODEL_FILE = "model.json"
"""Says which model the command line loaded for a collection."""
MODEL_PREFIX = "model-"
"""A model that was made for this collection alone stands in such a folder beside the tables, with
the beginning of its digest in its name: the next one never takes the place of one in use."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What is wanted.

    Attributes:
        reader: name and settings, under the keys of a fingerprint.
        model: a folder or Hub id, "./" before one beside the tables; None for the packaged default.
        base: what that model was made from, as `model` would name it.
        digest: of the model, as a fingerprint has it.
        reason: why, in one sentence.
    """

    reader: dict[str, str] = field(default_factory=dict)
    model: str | None = None
    base: str | None = None
    digest: str = ""
    reason: str = ""

    def save(self, folder: Path) -> None:
        """Write settings.json, making the folder if need be."""
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(asdict(self), indent=2, sort_keys=True, ensure_ascii=False)
        replace_file(folder / SETTINGS_NAME, text + "\n")

    @classmethod
    def load(cls, folder: Path) -> Settings | None:
        """Read settings.json, or None where there is none.

        Raises:
            CollectionError: it is damaged.
        """
        file = folder / SETTINGS_NAME
        try:
            return cls(**json.loads(file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            raise CollectionError(
                f"settings: {file} is not readable ({error}); remove it for the defaults, or run "
                "`unabridged probe` again."
            ) from error

    def fits(self, fingerprint: dict[str, str]) -> bool:
        """Whether a collection with this fingerprint was read as is wanted."""
        return self.reader == reader_of(fingerprint) and self.digest == fingerprint.get("model")

    def place_of_model(self, folder: Path) -> str | None:
        """The model as it can be loaded, for the settings of a collection in `folder`."""
        return place_of_model(self.model, folder)


def place_of_model(name: str | None, folder: Path) -> str | None:
    """A model named beside a collection's tables, as it can be loaded; others as they are.

    >>> [place_of_model(name, Path("minutes")) for name in ("./model-12ab", "owner/name", None)]
    ['minutes/model-12ab', 'owner/name', None]
    """
    return str(folder / name) if name is not None and name.startswith("./") else name


def reader_of(fingerprint: dict[str, str]) -> dict[str, str]:
    """What a fingerprint says of the reader.

    >>> reader_of({"model": "abc", "reader": "chunks", "reader.passage": "126", "format": "1"})
    {'reader': 'chunks', 'reader.passage': '126'}
    """
    return {key: value for key, value in fingerprint.items() if key.split(".")[0] == "reader"}
