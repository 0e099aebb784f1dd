"""One reader reads the documents and answers the queries; what it found, and at what cost."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from unabridged.collection import Embedder
from unabridged.probing.task import Task

__all__ = ["SCORINGS", "Contestant", "Opened", "Record", "Scoring", "read"]

Scoring = Literal["one vector", "best passage", "best three"]
SCORINGS: tuple[Scoring, ...] = get_args(Scoring)
"""How a document answers a query: by the mean of its passages' vectors, by its best passage, or,
as a collection's search does it, by the mean of its best three."""

Opened = Callable[[], AbstractContextManager[Embedder]]


@dataclass(frozen=True, slots=True)
class Contestant:
    """A way to read.

    Attributes:
        name: for people, unlike that of every other contestant.
        open: loads its encoder, and puts away what was made for it alone.
        role: "choice" can become the reader of a collection, "comparison" cannot.
    """

    name: str
    open: Opened
    role: Literal["choice", "comparison"] = "choice"


@dataclass(frozen=True, slots=True)
class Record:
    """What one contestant made of a task.

    Attributes:
        name: of the contestant.
        fingerprint: of its encoder.
        vectors: for every document (P, D) raw vectors of its passages.
        queries: (Q, D) raw vectors.
        seconds: processor seconds, of all threads, that reading the documents took.
        tokens: how many were read.
    """

    name: str
    fingerprint: dict[str, str]
    vectors: tuple[NDArray[np.float32], ...]
    queries: NDArray[np.float32]
    seconds: float
    tokens: int

    def __add__(self, later: Record) -> Record:
        """The same contestant with the documents of this task and those of another."""
        return Record(
            self.name,
            self.fingerprint,
            self.vectors + later.vectors,
            np.concatenate([self.queries, later.queries]),
            self.seconds + later.seconds,
            self.tokens + later.tokens,
        )

    @property
    def passages(self) -> float:
        """Vectors a document, on average."""
        return sum(map(len, self.vectors)) / max(1, len(self.vectors))

    def scores(self, how: Scoring) -> NDArray[np.float32]:
        """(Q, N) what every document scores for every query, by raw cosines."""
        asked = _unit(self.queries)
        if how == "one vector":
            return asked @ _unit(np.stack([rows.mean(axis=0) for rows in self.vectors])).T
        best = 1 if how == "best passage" else 3
        columns = [np.sort(asked @ _unit(rows).T, axis=1)[:, -best:] for rows in self.vectors]
        return np.stack([column.mean(axis=1) for column in columns], axis=1)

    def hits(self, task: Task, how: Scoring) -> NDArray[np.float64]:
        """(Q,) 1 where the right document came first; a tie is a miss."""
        scores = self.scores(how)
        own = scores[np.arange(len(scores)), [query.document for query in task.queries]]
        return np.asarray((scores >= own[:, None]).sum(axis=1) == 1, dtype=np.float64)


def read(
    contestant: Contestant, task: Task, *, on_tokens: Callable[[int], None] | None = None
) -> Record:
    """Let one contestant read the documents and encode the queries.

    Args:
        contestant: opened here, and closed again.
        task: what is read and asked.
        on_tokens: called with the number of tokens read since its last call.
    """
    with contestant.open() as encoder:
        started = time.process_time()
        readings = list(encoder.read_many(task.texts, on_tokens=on_tokens))
        seconds = time.process_time() - started
        return Record(
            contestant.name,
            encoder.fingerprint,
            tuple(reading.vectors for reading in readings),
            np.asarray(encoder.encode_query([query.text for query in task.queries]), np.float32),
            seconds,
            sum(reading.coverage.tokens_read for reading in readings),
        )


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
    return np.asarray(rows / np.maximum(lengths, 1e-12), np.float32)
