"""The collection: a folder on disk that holds documents, and answers questions about them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Literal, NoReturn, Self, TypeVar, get_args

from unabridged._errors import CollectionError
from unabridged.collection.calibration import calibrate, discard_others, is_due
from unabridged.collection.catalogue import read_catalogue
from unabridged.collection.contents import (
    CollectionInfo,
    StoredDocument,
    StoredPassage,
    Summary,
    read_document_row,
    read_info,
    read_passages,
    read_summaries,
)
from unabridged.collection.dense import unit_rows
from unabridged.collection.embedder import Embedder
from unabridged.collection.hits import Hit
from unabridged.collection.lock import write_lock
from unabridged.collection.manifest import Manifest
from unabridged.collection.opening import IfMissing, open_folder
from unabridged.collection.report import Meter, Progress, SyncReport
from unabridged.collection.search import Mode, Question, answer
from unabridged.collection.snapshot import Snapshots, steady
from unabridged.collection.sources import Item, open_source
from unabridged.collection.store import Store, writing
from unabridged.collection.sync import Run

__all__ = ["Collection", "Vanished"]

MEMORY = 1 << 30
T = TypeVar("T")
Vanished = Literal["remove", "keep"]


class Collection:
    """Documents, their passages and vectors, in a folder of plain LanceDB tables.

    Opened with `Collection.open`. Searching needs no lock and sees whole documents only, even while
    another process writes; one process at a time may write. What lies on disk, and what a crash can
    and cannot do, is in the guide to collections.
    """

    def __init__(
        self, manifest: Manifest, store: Store, encoder: Embedder | None, *, memory: int
    ) -> None:
        self.path = store.folder
        self._manifest, self._store, self._encoder = manifest, store, encoder
        self._snapshots = Snapshots(store.folder, store, memory=memory)
        self._reading = threading.RLock()

    @classmethod
    def open(
        cls,
        path: str | Path,
        encoder: Embedder | None = None,
        *,
        if_missing: IfMissing = "create",
        language: str = "English",
        memory: int = MEMORY,
    ) -> Self:
        """Open the collection in a folder, or make one where there is none.

        Args:
            path: of the folder.
            encoder: makes vectors; without one, an existing collection can be listed, read, pruned
                and searched by words.
            if_missing: "refuse" raises where there is no collection.
            language: of stemming and stop words; counts only when the collection is made.
            memory: bytes that the vectors may take while searching; a larger collection is streamed
                from disk for every query, which is slower and gives the same hits.

        Raises:
            CollectionError: made with another pipeline, written by a newer program, damaged, or no
                collection at all.
        """
        folder = Path(path).expanduser()
        manifest, store = open_folder(folder, encoder, if_missing=if_missing, language=language)
        return cls(manifest, store, encoder, memory=memory)

    def sync(
        self,
        source: str | Path | Iterable[Item],
        *,
        vanished: Vanished = "remove",
        progress: Callable[[Progress], None] | None = None,
    ) -> SyncReport:
        """Make the collection equal to a source; only what is new or changed is read.

        Documents are committed in groups, so that an interrupted sync keeps what it had done and
        the next one continues. A document that cannot be read is reported and leaves the rest, and
        its own older version, alone.

        Args:
            source: a folder, a file, or an iterable of files, (id, text) pairs or `Document`s.
            vanished: what happens to earlier documents of this source that are no longer there. All
                that is not from a folder counts as one source, so pass "keep" to add to it.
            progress: called with a snapshot after every step.

        Raises:
            CollectionError: another writer, a full disk, a source that does not exist, an empty
                folder, or no encoder.
            ValueError: an unknown policy.
        """
        encoder = self._need_encoder("sync")
        _check_choice("sync", "vanished", vanished, get_args(Vanished))
        started, meter = monotonic(), Meter(progress)
        with self._writing():
            owners = {id: known.source for id, known in self._store.known().items()}
            found = open_source(source, owner_of=owners.get, into=self.path)
            run = Run(self._store, encoder, found, meter)
            run.read()
            gone = run.vanished() if vanished == "remove" else {}
            self._store.drop(gone.values())
            meter.enter("tidying")
            self._store.tidy()
            self._calibrate(encoder, meter)
        outcome = run.outcome
        return SyncReport(
            added=tuple(outcome.added),
            changed=tuple(outcome.changed),
            unchanged=tuple(outcome.unchanged),
            removed=tuple(gone),
            failed=tuple(outcome.failed),
            skipped=tuple(outcome.skipped),
            incomplete=tuple(outcome.incomplete),
            coverage=outcome.coverage,
            seconds=monotonic() - started,
            whitening=self._manifest.whitening,
        )

    def search(
        self,
        query: str,
        *,
        mode: Mode | None = None,
        limit: int = 10,
        path: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> list[Hit]:
        """Documents that answer a question, best first.

        Args:
            query: any text of any length.
            mode: "dense" by the mean cosine of a document's best three passages, "lexical" by BM25
                of the whole document, "hybrid" by the weighted z-scored sum of both and of BM25
                over passages; the default is "hybrid" with an encoder and "lexical" without.
            limit: at most so many hits.
            path: only documents whose id matches this glob; `*` also crosses folders.
            metadata: only documents with these values.

        Raises:
            ValueError: an empty query, an unknown mode, or a limit below 1.
            CollectionError: a mode that needs an encoder, and there is none.
        """
        if not query.strip():
            raise ValueError("search: the query is empty; write what you are looking for.")
        if limit < 1:
            raise ValueError(f"search: limit is {limit} and must be at least 1; ask for more hits.")
        mode = mode or ("lexical" if self._encoder is None else "hybrid")
        _check_choice("search", "mode", mode, get_args(Mode))
        raw = None
        if mode != "lexical":
            raw = self._need_encoder(f"search by mode {mode!r}").encode_query([query])

        def read() -> list[Hit]:
            now = self._snapshots.current(vectors=raw is not None)
            if not len(now.catalogue):
                return []
            kept = now.catalogue.chosen(path, metadata)
            vector = None if raw is None else unit_rows(now.calibration.queries(raw))[0]
            question = Question(query, vector, mode, limit, kept)
            return answer(question, self._store, now.catalogue, now.index)

        return self._steadily(read)

    def get(self, id: str) -> StoredDocument:
        """A document with its text.

        Raises:
            CollectionError: there is no such document.
        """
        found = self._steadily(lambda: self._fresh(lambda: read_document_row(self._store, id)))
        return found if found is not None else self._unknown("get", [id])

    def passages(self, id: str) -> Sequence[StoredPassage]:
        """The passages of a document in order, with their raw vectors.

        Raises:
            CollectionError: there is no such document.
        """
        found = self._steadily(lambda: self._fresh(lambda: read_passages(self._store, id)))
        return found if found is not None else self._unknown("passages", [id])

    def info(self) -> CollectionInfo:
        """How large the collection is, what made it, and what was decided about whitening."""

        def read() -> CollectionInfo:
            self._manifest = Manifest.load(self.path)
            return read_info(self._store, self._manifest)

        return self._steadily(lambda: self._fresh(read))

    def remove(self, ids: str | Iterable[str]) -> tuple[str, ...]:
        """Remove documents, all or none of those named; gives their ids.

        Raises:
            CollectionError: an id that is not there, or another writer.
        """
        wanted = [ids] if isinstance(ids, str) else list(dict.fromkeys(ids))
        with self._writing():
            known = self._store.known()
            missing = [id for id in wanted if id not in known]
            if missing:
                self._unknown("remove", missing)
            self._store.drop([known[id].revision for id in wanted])
            self._store.tidy()
        return tuple(wanted)

    def compact(self) -> None:
        """Merge small files, bring the indexes up to date, and delete what nothing refers to.

        A sync does this by itself when enough commits have gathered; call it to free the space of
        removed documents at once.

        Raises:
            CollectionError: another writer, or a full disk.
        """
        with self._writing():
            self._store.discard_orphans()
            self._store.compact()

    def close(self) -> None:
        """Let go of vectors and tables; the collection object is of no further use."""
        self._snapshots = Snapshots(self.path, self._store, memory=0)

    def list(self) -> Sequence[Summary]:
        """All documents, by id, without their texts."""
        return self._steadily(lambda: self._fresh(lambda: read_summaries(self._store)))

    def __len__(self) -> int:
        """How many documents there are."""
        return self.info().documents

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _calibrate(self, encoder: Embedder, meter: Meter) -> None:
        self._store.refresh()
        record = self._manifest.whitening
        lost = record is not None and not (self.path / record.file).exists()
        if not lost and not is_due(read_catalogue(self._store), record):
            return
        meter.enter("whitening")
        record = calibrate(self._store, encoder, self.path)
        with writing("whiten"):
            self._manifest.with_whitening(record).save(self.path)
        self._manifest = self._manifest.with_whitening(record)
        discard_others(self.path, record)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with write_lock(self.path), self._reading:
            self._manifest = Manifest.load(self.path)
            self._store.refresh()
            yield

    def _steadily(self, read: Callable[[], T]) -> T:
        with self._reading:
            return steady(read)

    def _fresh(self, read: Callable[[], T]) -> T:
        self._store.refresh()
        return read()

    def _need_encoder(self, what: str) -> Embedder:
        if self._encoder is None:
            message = (
                f"{what}: {self.path} was opened without an encoder; open it with "
                f"Collection.open(path, encoder), or search with mode='lexical'."
            )
            raise CollectionError(message)
        return self._encoder

    def _unknown(self, what: str, ids: Sequence[str]) -> NoReturn:
        message = (
            f"{what}: {self.path} has no document {', '.join(map(repr, ids))}; "
            f"list() gives the ids that it has."
        )
        raise CollectionError(message)


def _check_choice(caller: str, name: str, choice: str, choices: tuple[str, ...]) -> None:
    if choice not in choices:
        raise ValueError(f"{caller}: {name} is {choice!r}; choose one of {', '.join(choices)}.")
