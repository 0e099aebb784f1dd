"""The readers that take part in a probe, and how each is opened and put away."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from unabridged.encoder import Chunks, Full, LongEncoder, Reader, Truncate, Windows
from unabridged.encoder.extension import extend
from unabridged.positions import Scheme
from unabridged.probing.contest import Contestant

__all__ = ["PASSAGE", "TABLES", "Table", "contestants", "extended"]

Model = str | os.PathLike[str] | None
PASSAGE = 126


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


def contestants(
    model: Model, *, positions: int, tables: Sequence[Table] = TABLES
) -> list[Contestant]:
    """Truncation, passages read one by one, windows, and the whole in one pass with each table.

    Args:
        model: a folder or Hub id; None for the packaged default.
        positions: tokens that the longer tables have, special ones included; a table that is no
            longer than the model's own leaves one pass out.
        tables: of the full reader.
    """
    with_own = [
        Contestant("truncate", partial(_opened, model, Truncate()), "comparison"),
        Contestant("chunks", partial(_opened, model, Chunks(PASSAGE))),
        Contestant("windows", partial(_opened, model, Windows(PASSAGE))),
    ]
    reader = Full(PASSAGE)
    full = [
        Contestant(f"full, {table}", partial(extended, model, table, positions, reader))
        for table in tables
    ]
    return with_own + full


@contextmanager
def extended(model: Model, table: Table, positions: int, reader: Reader) -> Iterator[LongEncoder]:
    """The model with a longer table, in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="unabridged-probe-") as place:
        folder = Path(place) / "model"
        extend(model, folder, max_length=positions, scheme=table.scheme, alpha=table.alpha)
        yield LongEncoder(folder, reader=reader)


@contextmanager
def _opened(model: Model, reader: Reader) -> Iterator[LongEncoder]:
    yield LongEncoder(model, reader=reader)
