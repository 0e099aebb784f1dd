"""Make a collection equal to a source: read what is new or changed, drop what is gone.

Data flow:

    candidates ─ hash ─► unchanged | to read ─ embedder ─► groups ─ commit ─► tables
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from time import monotonic

from unabridged._errors import DocumentError
from unabridged._reading import Coverage, Reading
from unabridged.collection.documents import Document, NothingToRead
from unabridged.collection.embedder import Embedder
from unabridged.collection.report import Meter
from unabridged.collection.rows import Entry
from unabridged.collection.sources import Candidate, Failure, Source, Unreadable
from unabridged.collection.store import Known, Store

__all__ = ["Outcome", "Run"]

GROUP_CHARACTERS = 1_000_000
GROUP_SECONDS = 3.0
GROUPS_BEFORE_TIDY = 32


@dataclass(slots=True)
class Outcome:
    """What a run has done so far; becomes the report."""

    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)
    skipped: list[Failure] = field(default_factory=list)
    incomplete: list[str] = field(default_factory=list)
    tokens_read: int = 0
    tokens_total: int = 0

    @property
    def coverage(self) -> Coverage:
        """Summed over what was added or changed."""
        return Coverage(self.tokens_read, self.tokens_total)


class Run:
    """One pass over one source.

    Args:
        store: its write lock held by the caller.
        embedder: makes the readings.
        source: the candidates.
        meter: told of every step.
    """

    def __init__(self, store: Store, embedder: Embedder, source: Source, meter: Meter) -> None:
        self._store, self._embedder, self._source, self._meter = store, embedder, source, meter
        self._revision = store.discard_orphans()
        self._known = store.known()
        self._seen: set[str] = set()
        self._waiting: deque[tuple[Candidate, Document, str]] = deque()
        self._group: list[Entry] = []
        self._group_characters = 0
        self._group_started = monotonic()
        self._groups = 0
        self._moved: list[int] = []
        self.outcome = Outcome()

    def read(self) -> None:
        """Read and commit all that is new or changed."""
        fresh = self._fresh()
        if self._source.sized:
            todo = list(fresh)
            self._meter.expect(documents=len(todo), size=sum(item.size for item in todo))
            fresh = iter(todo)
        else:
            self._meter.expect(documents=None, size=None)
        first = next(fresh, None)
        self._store.adopt(self._moved, self._source.name)
        if first is None:
            return
        texts = self._texts(chain([first], fresh))
        for reading in self._embedder.read_many(texts, on_tokens=self._meter.count):
            self._take(reading)
        self._commit()

    def vanished(self) -> dict[str, int]:
        """Ids and revisions of documents of this source that were not met again."""
        shelters = tuple(f"{failure.id}/" for failure in self.outcome.failed)
        return {
            id: known.revision
            for id, known in self._known.items()
            if known.source == self._source.name
            and id not in self._seen
            # A folder that may not be opened today has not lost its documents.
            and not id.startswith(shelters)
        }

    def _fresh(self) -> Iterator[Candidate]:
        for candidate in self._source.candidates:
            if isinstance(candidate, Unreadable):
                self._refuse(candidate.failure, empty=candidate.empty)
            elif candidate.id in self._seen:
                self._refuse(Failure(candidate.id, "is an id that came twice in one sync"))
            else:
                self._seen.add(candidate.id)
                known = self._known.get(candidate.id)
                if known is None or known.content_hash != candidate.content_hash:
                    yield candidate
                    continue
                self.outcome.unchanged.append(candidate.id)
                if known.source != self._source.name:
                    self._moved.append(known.revision)

    def _texts(self, candidates: Iterable[Candidate]) -> Iterator[str]:
        for candidate in candidates:
            try:
                document, content_hash = candidate.load()
            except NothingToRead as error:
                self._seen.discard(candidate.id)
                self._refuse(Failure(candidate.id, str(error)), empty=True)
            except DocumentError as error:
                self._refuse(Failure(candidate.id, str(error)))
            else:
                self._meter.loaded(candidate.id)
                self._waiting.append((candidate, document, content_hash))
                yield document.text

    def _refuse(self, failure: Failure, *, empty: bool = False) -> None:
        if empty:
            self.outcome.skipped.append(failure)
        else:
            self._seen.add(failure.id)
            self.outcome.failed.append(failure)

    def _take(self, reading: Reading) -> None:
        candidate, document, content_hash = self._waiting.popleft()
        self._meter.finish(size=candidate.size, tokens=reading.coverage.tokens_total)
        if not len(reading):
            self._seen.discard(document.id)
            self._refuse(Failure(document.id, "holds no words"), empty=True)
            return
        self._revision += 1
        entry = Entry(document, reading, self._source.name, content_hash, self._revision)
        self._group.append(entry)
        self._group_characters += len(document.text)
        late = monotonic() - self._group_started > GROUP_SECONDS
        if self._group_characters >= GROUP_CHARACTERS or late:
            self._commit()

    def _commit(self) -> None:
        group, self._group, self._group_characters = self._group, [], 0
        self._group_started = monotonic()
        if not group:
            return
        before = [self._known.get(entry.document.id) for entry in group]
        self._store.commit(group, [known.revision for known in before if known is not None])
        for entry, known in zip(group, before, strict=True):
            self._record(entry, known)
        self._groups += 1
        if self._groups % GROUPS_BEFORE_TIDY == 0:
            self._store.tidy()

    def _record(self, entry: Entry, known: Known | None) -> None:
        id, coverage = entry.document.id, entry.reading.coverage
        (self.outcome.added if known is None else self.outcome.changed).append(id)
        self.outcome.tokens_read += coverage.tokens_read
        self.outcome.tokens_total += coverage.tokens_total
        if coverage.tokens_read < coverage.tokens_total:
            self.outcome.incomplete.append(id)
