"""A contest in rounds: more documents for all, again and again, until the time is used up.

Which documents take part, and in which order, the seed alone decides; how many fit into the time
depends on the machine. After every round all contestants have read the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from unabridged.probing.contest import Contestant, Record, read
from unabridged.probing.task import Task

__all__ = ["FIRST", "Round", "Step", "hold"]

FIRST = 12
"""Documents of the first round; every later one doubles what was read, if there is time."""
FEWEST = 3


@dataclass(frozen=True, slots=True)
class Round:
    """What all contestants have read so far.

    Attributes:
        task: the documents, and what was asked.
        records: one a contestant, in their order.
    """

    task: Task
    records: tuple[Record, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """Where a contest stands.

    Attributes:
        contestant: who reads.
        documents: that this round is going to reach.
        documents_total: that there are.
        seconds: since the beginning.
        seconds_left: until the time is used up or all is read; None before anything was read.
    """

    contestant: str
    documents: int
    documents_total: int
    seconds: float
    seconds_left: float | None


@dataclass(slots=True)
class _Clock:
    """Time and work: what has been done, and what it would take to do more."""

    budget: float
    work: int  # tokens of all documents, once for every contestant
    begun: float = field(default_factory=time.monotonic)
    done: int = 0

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.begun

    def expected(self, work: int) -> float | None:
        return self.seconds * work / self.done if self.done else None

    def left(self) -> float | None:
        rest = self.expected(self.work - self.done)
        return None if rest is None else max(0.0, min(rest, self.budget - self.seconds))


def hold(
    contestants: Sequence[Contestant],
    task: Task,
    tokens: Sequence[int],
    *,
    seconds: float = float("inf"),
    progress: Callable[[Step], None] | None = None,
) -> Iterator[Round]:
    """Let all contestants read more and more of a task.

    Args:
        contestants: who takes part.
        task: all documents that could be read.
        tokens: of each document; those of documents beyond the task are passed over.
        seconds: after which no round begins that would not be over by then; the first is always
            held.
        progress: called whenever somebody has read something.
    """
    tokens = tokens[: len(task)]
    clock = _Clock(seconds, sum(tokens) * len(contestants))
    records: tuple[Record, ...] = ()
    start, stop = 0, min(FIRST, len(task))
    while stop > start:
        part = task.part(start, stop)

        def tell(contestant: Contestant, more: int, reached: int = stop) -> None:
            clock.done += more
            if progress:
                step = (contestant.name, reached, len(task), clock.seconds, clock.left())
                progress(Step(*step))

        new = [_read(contestant, part, tell) for contestant in contestants]
        records = tuple(map(Record.__add__, records, new)) if records else tuple(new)
        yield Round(task.part(0, stop), records)
        start, stop = stop, _reach(stop, tokens, len(contestants), clock)


def _read(contestant: Contestant, task: Task, tell: Callable[[Contestant, int], None]) -> Record:
    tell(contestant, 0)
    return read(contestant, task, on_tokens=lambda more: tell(contestant, more))


def _reach(start: int, tokens: Sequence[int], contestants: int, clock: _Clock) -> int:
    """Up to which document the next round may go."""
    stop = min(2 * start, len(tokens))
    while stop > start:
        expected = clock.expected(sum(tokens[start:stop]) * contestants)
        if expected is None or clock.seconds + expected <= clock.budget:
            break
        stop -= 1
    return stop if stop - start >= FEWEST or stop == len(tokens) else start
