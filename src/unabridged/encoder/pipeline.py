"""From texts to readings: tokenise, cut, run in packs, put the passages back where they belong.

Memory is bounded by a few batches of states and by the tokens and vectors of the documents that
are under way; token states never outlive their batch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from unabridged._reading import Coverage, Reading, Span
from unabridged.encoder.forward import Forward
from unabridged.encoder.packing import Block, pack
from unabridged.encoder.pooling import Head
from unabridged.encoder.reading import Reader
from unabridged.encoder.tokens import TextTokenizer, Tokens

__all__ = ["CHUNK_ROWS", "WINDOW_ROWS", "Pipeline"]

CHUNK_ROWS, WINDOW_ROWS = 2048, 16384
"""Rows of a batch. Batches run side by side, one a core, so they must be small enough to share
work out; windows pay for the edges of every stretch and want longer ones."""


@dataclass(frozen=True)
class Pipeline:
    """An encoder with everything that stands around it.

    Attributes:
        tokenizer: text to tokens.
        forward: packs to token states.
        head: token states to vectors.
        layers: number of layers; so many blocks away a window can hear of.
    """

    tokenizer: TextTokenizer
    forward: Forward
    head: Head
    layers: int

    def read_many(
        self,
        texts: Iterable[str],
        reader: Reader,
        *,
        prompt: str = "",
        whole_up_to: int | None = None,
        on_tokens: Callable[[int], None] | None = None,
    ) -> Iterator[Reading]:
        """Readings of texts, in order; texts are pulled only as far ahead as a batch needs.

        Args:
            texts: documents.
            reader: how they are cut.
            prompt: stands before every passage and is no part of the document.
            whole_up_to: documents of at most so many tokens are one passage, whatever the reader
                says; None leaves all to the reader.
            on_tokens: called with the number of tokens read since its last call.
        """
        jobs: deque[_Job] = deque()
        running: deque[Future[_Delivery]] = deque()
        batch = _Batch(self, reader.context)
        for text in texts:
            job = self._job(text, reader, prompt, whole_up_to)
            jobs.append(job)
            for stretch in job.stretches(batch.limit):
                batch.add(stretch)
                if batch.full:
                    running.append(self._workers.submit(batch.run))
                    batch = _Batch(self, reader.context)
                    _settle(running, on_tokens, leave=2 * torch.get_num_threads())
            while jobs and jobs[0].done:
                yield jobs.popleft().reading()
        if batch.stretches:
            running.append(self._workers.submit(batch.run))
        _settle(running, on_tokens, leave=0)
        yield from (job.reading() for job in jobs)

    @cached_property
    def _workers(self) -> ThreadPoolExecutor:
        """One thread a core, each with products of one thread.

        Measured: two cores working on two batches are nearly twice as fast as two cores sharing
        every product, which wait for each other at the end of each.
        """
        return ThreadPoolExecutor(
            torch.get_num_threads(), "unabridged", initializer=torch.set_num_threads, initargs=(1,)
        )

    def _job(self, text: str, reader: Reader, prompt: str, whole_up_to: int | None) -> _Job:
        tokens, prompt_ids = self._tokens(text, prompt)
        count = len(tokens)
        whole = whole_up_to is not None and count <= whole_up_to
        spans = [(0, count)] if whole else reader.spans(count)
        prefix, suffix = self.tokenizer.specials
        return _Job(tokens, len(text), spans, [*prefix, *prompt_ids], suffix)

    def _tokens(self, text: str, prompt: str) -> tuple[Tokens, list[int]]:
        """Tokens of the text alone, and of the prompt as it stands before it."""
        if not prompt:
            return self.tokenizer(text), []
        both = self.tokenizer(prompt + text)
        own = int(np.count_nonzero(both.chars[:, 1] <= len(prompt)))
        unknown = tuple((a - len(prompt), b - len(prompt)) for a, b in both.unknown)
        chars = np.maximum(both.chars[own:] - len(prompt), 0)
        tokens = Tokens(both.ids[own:], chars, tuple(s for s in unknown if s[1] > 0))
        return tokens, both.ids[:own].tolist()


@dataclass
class _Job:
    """One document under way."""

    tokens: Tokens
    characters: int
    spans: list[Span]
    prefix: list[int]
    suffix: list[int]
    vectors: NDArray[np.float32] | None = None
    finished: int = 0

    @property
    def done(self) -> bool:
        return self.finished == len(self.spans)

    def rows(self, index: int) -> int:
        start, end = self.spans[index]
        return len(self.prefix) + end - start + len(self.suffix)

    def ids(self, index: int) -> list[int]:
        start, end = self.spans[index]
        return [*self.prefix, *self.tokens.ids[start:end].tolist(), *self.suffix]

    def stretches(self, limit: int) -> Iterator[_Stretch]:
        """Neighbouring passages, cut as soon as they have `limit` rows."""
        first, rows = 0, 0
        for index in range(len(self.spans)):
            rows += self.rows(index)
            if rows >= limit or index == len(self.spans) - 1:
                yield _Stretch(self, first, index + 1, rows)
                first, rows = index + 1, 0

    def keep(self, index: int, vector: NDArray[np.float32]) -> None:
        if self.vectors is None:
            self.vectors = np.empty((len(self.spans), len(vector)), np.float32)
        self.vectors[index] = vector
        self.finished += 1

    def reading(self) -> Reading:
        spans = np.array(self.spans, np.int64).reshape(-1, 2)
        read = int(spans[:, 1].max(initial=0))
        vectors = np.empty((0, 0), np.float32) if self.vectors is None else self.vectors
        return Reading(
            token_ids=self.tokens.ids,
            token_chars=self.tokens.chars,
            vectors=vectors,
            passage_tokens=spans,
            passage_chars=_char_spans(self.tokens.chars, spans),
            coverage=Coverage(
                tokens_read=read,
                tokens_total=len(self.tokens),
                unread=self._unread(read),
                unknown=self.tokens.unknown,
            ),
        )

    def _unread(self, read: int) -> tuple[Span, ...]:
        if read == len(self.tokens):
            return ()
        start = int(self.tokens.chars[:read, 1].max(initial=0))
        return ((start, self.characters),)


@dataclass(frozen=True)
class _Stretch:
    """Passages `first` to `last` (exclusive) of one document."""

    job: _Job
    first: int
    last: int
    rows: int


_Delivery = list[tuple[_Job, int, NDArray[np.float32]]]
"""Vectors and where they belong: which passage of which document."""


@dataclass
class _Batch:
    """Stretches that wait to be run together."""

    pipeline: Pipeline
    context: int
    stretches: list[_Stretch] = field(default_factory=list)
    rows: int = 0

    @property
    def limit(self) -> int:
        return WINDOW_ROWS if self.context else CHUNK_ROWS

    @property
    def full(self) -> bool:
        return self.rows >= self.limit

    def add(self, stretch: _Stretch) -> None:
        self.stretches.append(stretch)
        self.rows += stretch.rows

    def run(self) -> _Delivery:
        """Read the stretches; touches no document, so that batches can run side by side."""
        blocks, owners = self._blocks()
        prefix = self.stretches[0].job.prefix
        specials = (len(prefix), len(self.stretches[0].job.suffix))
        packed, order = pack(blocks, self.context, specials)
        states = self.pipeline.forward(packed)
        prompt_rows = slice(len(self.pipeline.tokenizer.specials[0]), len(prefix))
        delivery: _Delivery = []
        at = 0
        for tile in packed.tiles:
            shaped = states[tile.rows].view(tile.blocks, tile.length, -1)
            vectors = self.pipeline.head(shaped, prompt_rows).numpy()
            for index, vector in zip(order[at : at + tile.blocks], vectors, strict=True):
                owner = owners[index]
                if owner is not None:
                    delivery.append((*owner, vector))
            at += tile.blocks
        return delivery

    def _blocks(self) -> tuple[list[Block], list[tuple[_Job, int] | None]]:
        """Blocks of all stretches; those read only for their neighbours' sake have no owner."""
        blocks: list[Block] = []
        owners: list[tuple[_Job, int] | None] = []
        for stretch in self.stretches:
            job, halo = stretch.job, self._halo(stretch.job)
            first, last = max(0, stretch.first - halo), min(len(job.spans), stretch.last + halo)
            for index in range(first, last):
                here = len(blocks)
                before = here - 1 if self.context and index > first else None
                after = here + 1 if self.context and index < last - 1 else None
                blocks.append(Block(job.ids(index), before, after))
                mine = stretch.first <= index < stretch.last
                owners.append((job, index) if mine else None)
        return blocks, owners

    def _halo(self, job: _Job) -> int:
        """Blocks beyond a stretch that its own can have heard of: one more with every layer."""
        return self.pipeline.layers if self.context and len(job.spans) > 1 else 0


def _settle(
    running: deque[Future[_Delivery]], on_tokens: Callable[[int], None] | None, *, leave: int
) -> None:
    """Deliver batches until at most `leave` are under way; an error of theirs is raised here."""
    while len(running) > leave:
        tokens = 0
        for job, index, vector in running.popleft().result():
            job.keep(index, vector)
            start, end = job.spans[index]
            tokens += end - start
        if on_tokens:
            on_tokens(tokens)


def _char_spans(chars: NDArray[np.int64], spans: NDArray[np.int64]) -> NDArray[np.int64]:
    """Character span of every token span; empty ones stand at 0."""
    found = np.zeros_like(spans)
    for row, (start, end) in enumerate(spans):
        if end > start:
            found[row] = chars[start:end, 0].min(), chars[start:end, 1].max()
    return found
