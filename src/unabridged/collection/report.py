"""What a sync tells: snapshots while it runs, a report when it is done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Literal

from unabridged._reading import Coverage
from unabridged.collection.manifest import WhiteningRecord
from unabridged.collection.sources import Failure

__all__ = ["Meter", "Phase", "Progress", "SyncReport"]

Phase = Literal["looking", "reading", "tidying", "whitening"]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a sync is.

    Attributes:
        phase: "looking" for what is new, "reading" documents, "tidying" tables, "whitening".
        documents: documents read so far.
        documents_total: documents to read, or None while that is unknown.
        tokens: tokens read so far.
        tokens_total: estimate of all tokens to read, from the sizes of the documents and the tokens
            per size seen so far; None while unknown.
        seconds: since the sync began reading.
        document: id of the document loaded last.
    """

    phase: Phase
    documents: int = 0
    documents_total: int | None = None
    tokens: int = 0
    tokens_total: int | None = None
    seconds: float = 0.0
    document: str = ""

    @property
    def seconds_left(self) -> float | None:
        """Estimate from the speed so far; None where nothing is known yet.

        >>> Progress("reading", tokens=100, tokens_total=400, seconds=2.0).seconds_left
        6.0
        """
        if self.tokens_total is None or not self.tokens:
            return None
        return self.seconds * max(0, self.tokens_total - self.tokens) / self.tokens


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What a sync did.

    Attributes:
        added: ids of new documents.
        changed: ids of documents whose content was replaced.
        unchanged: ids of documents that cost no reading.
        removed: ids of documents that had vanished from their source.
        failed: documents whose words could not be had, with reasons; an older version stays.
        skipped: paths that hold no words by their kind (empty files, pictures), with reasons.
        incomplete: ids of documents of which the reader left something unread.
        coverage: tokens read and tokens there, summed over what was added or changed.
        seconds: duration.
        whitening: the decision about whitening that is in force, if there is one.
    """

    added: tuple[str, ...]
    changed: tuple[str, ...]
    unchanged: tuple[str, ...]
    removed: tuple[str, ...]
    failed: tuple[Failure, ...]
    skipped: tuple[Failure, ...]
    incomplete: tuple[str, ...]
    coverage: Coverage
    seconds: float
    whitening: WhiteningRecord | None

    @property
    def tokens(self) -> int:
        """Tokens that were read."""
        return self.coverage.tokens_read


class Meter:
    """Counts, estimates, and calls the user's callback.

    Args:
        callback: called with each snapshot, or None.
    """

    # About four bytes a token in English; replaced by what is measured after the first document.
    TOKENS_PER_SIZE = 0.25

    def __init__(self, callback: Callable[[Progress], None] | None) -> None:
        self._callback = callback
        self._started = monotonic()
        self._phase: Phase = "looking"
        self._documents, self._documents_total = 0, None
        self._tokens = self._done_tokens = 0
        self._done_size, self._total_size = 0, None
        self._document = ""

    _documents_total: int | None
    _total_size: int | None

    def expect(self, *, documents: int | None, size: int | None) -> None:
        """Say how much there is to read, and start the clock."""
        self._documents_total, self._total_size = documents, size
        self._started = monotonic()
        self.enter("reading")

    def enter(self, phase: Phase) -> None:
        """Begin a phase."""
        self._phase = phase
        self._tell()

    def loaded(self, document: str) -> None:
        """A document was loaded."""
        self._document = document
        self._tell()

    def count(self, tokens: int) -> None:
        """Further tokens were read."""
        self._tokens += tokens
        self._tell()

    def finish(self, *, size: int, tokens: int) -> None:
        """A document of that size turned out to have that many tokens."""
        self._documents += 1
        self._done_size += size
        self._done_tokens += tokens
        # An embedder may count no tokens on the way; what is read is read all the same.
        self._tokens = max(self._tokens, self._done_tokens)
        self._tell()

    def _estimate(self) -> int | None:
        if self._total_size is None:
            return None
        rate = self._done_tokens / self._done_size if self._done_size else self.TOKENS_PER_SIZE
        rest = max(0, self._total_size - self._done_size)
        return max(self._tokens, self._done_tokens + round(rate * rest))

    def _tell(self) -> None:
        if self._callback is None:
            return
        self._callback(
            Progress(
                self._phase,
                documents=self._documents,
                documents_total=self._documents_total,
                tokens=self._tokens,
                tokens_total=self._estimate(),
                seconds=monotonic() - self._started,
                document=self._document,
            )
        )
