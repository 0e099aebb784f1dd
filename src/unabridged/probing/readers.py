"""The readers that take part in a probe, how each is opened, and how the winner is kept."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from unabridged.collection import Settings
from unabridged.collection.settings import MODEL_PREFIX
from unabridged.encoder import Chunks, Full, LongEncoder, Reader, Truncate, Windows
from unabridged.encoder.checkpoint import find_checkpoint
from unabridged.encoder.extension import extend
from unabridged.positions import Scheme
from unabridged.probing.contest import Contestant

__all__ = ["TABLES", "Model", "Table", "Way", "adopt", "contestant", "ways"]

Model = str | os.PathLike[str] | None


@dataclass(frozen=True, slots=True)
class Table:
    """A way to lengthen a position table.

    Attributes:
        scheme: see `unabridged.positions`.
        alpha: of the hierarchical ones.
    """

    scheme: Scheme
    alpha: float | None = None

    def __str__(self) -> str:
        """As tables and plots call it."""
        return self.scheme if self.alpha is None else f"{self.scheme} {self.alpha:g}"


TABLES: tuple[Table, ...] = (
    Table("hierarchical", 0.2),
    Table("hierarchical", 0.4),
    Table("recurrent"),
    Table("grouped"),
    Table("interpolated"),
    Table("interpolated-hierarchical", 0.4),
)


@dataclass(frozen=True, slots=True)
class Way:
    """A way to read.

    Attributes:
        reader: with its settings.
        table: of the model that it reads with; None for the model's own.
    """

    reader: Reader
    table: Table | None = None

    @property
    def name(self) -> str:
        """As tables and plots call it."""
        name = type(self.reader).__name__.lower()
        if isinstance(self.reader, Full) and self.reader.passage is None:
            name = f"{name} in one vector"
        return name if self.table is None else f"{name}, {self.table}"

    @property
    def settings(self) -> dict[str, str]:
        """Of the reader, as the fingerprint of an encoder has them."""
        name = type(self.reader).__name__.lower()
        return {"reader": name, **{f"reader.{k}": str(v) for k, v in asdict(self.reader).items()}}


def ways(encoder: LongEncoder, *, positions: int, tables: Sequence[Table] = TABLES) -> list[Way]:
    """Truncation, passages one by one, windows, and the whole in one pass with each table.

    Args:
        encoder: any of the model; passages are what it reads by default, or as long as it can.
        positions: tokens that the longer tables have, special ones included; where the model's own
            table has as many, it is the only one, and one vector of the whole takes part too.
        tables: of the full reader.
    """
    size = min(Chunks().passage, encoder.max_length)
    plain = [Way(Truncate(encoder.max_length)), Way(Chunks(size))]
    plain.append(Way(Windows(size, min(Windows().context, size // 2))))
    folder = encoder.checkpoint.folder
    try:
        full = Full(size)
        LongEncoder(folder, reader=full)
    except ValueError:  # the model takes its vector from one token, and has no late chunks
        full = Full()
    if positions <= _own_positions(encoder):
        return [*plain, *map(Way, dict.fromkeys((full, Full())))]
    return [*plain, *(Way(full, table) for table in tables)]


def contestant(way: Way, model: Model, positions: int) -> Contestant:
    """Somebody who reads that way; the model with a longer table is gone afterwards."""
    is_cut = isinstance(way.reader, Truncate)
    opener = partial(_opened, way, model, positions)
    return Contestant(way.name, opener, "comparison" if is_cut else "choice")


def adopt(way: Way, model: Model, positions: int, folder: Path, *, reason: str) -> Settings:
    """Write down how the collection in a folder shall be made, with the model that it needs.

    A collection that exists is left as it is.

    Args:
        way: that shall be used.
        model: that it starts from.
        positions: of the longer table.
        folder: of the collection, there already or not.
        reason: in one sentence.
    """
    base = None if model is None else str(model)
    own = _keep_model(way.table, model, positions, folder) if way.table else None
    digest = find_checkpoint(own or model).digest
    name = f"./{own.name}" if own else base
    settings = Settings(way.settings, name, base, digest, reason)
    settings.save(folder)
    return settings


@contextmanager
def _opened(way: Way, model: Model, positions: int) -> Iterator[LongEncoder]:
    if way.table is None:
        yield LongEncoder(model, reader=way.reader)
        return
    with tempfile.TemporaryDirectory(prefix="unabridged-probe-") as place:
        folder = Path(place) / "model"
        _extend(way.table, model, positions, folder)
        yield LongEncoder(folder, reader=way.reader)


def _keep_model(table: Table, model: Model, positions: int, folder: Path) -> Path:
    """Make a longer model in the folder of a collection, all at once; one that is there stays."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=MODEL_PREFIX, dir=folder) as place:
        fresh = Path(place) / "model"
        _extend(table, model, positions, fresh)
        kept = folder / f"{MODEL_PREFIX}{find_checkpoint(fresh).digest[:12]}"
        if not kept.exists():
            fresh.rename(kept)
    return kept


def _extend(table: Table, model: Model, positions: int, folder: Path) -> None:
    extend(model, folder, max_length=positions, scheme=table.scheme, alpha=table.alpha)


def _own_positions(encoder: LongEncoder) -> int:
    config = encoder.checkpoint.transformer / "config.json"
    return int(json.loads(config.read_text(encoding="utf-8"))["max_position_embeddings"])
