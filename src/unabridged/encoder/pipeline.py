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
from torch import Tensor

from unabridged._reading import Reading
from unabridged.encoder.forward import Forward
from unabridged.encoder.job import Job, Stretch, recut
from unabridged.encoder.packing import Block, pack
from unabridged.encoder.pooling import Head
from unabridged.encoder.reading import Full, Reader
from unabridged.encoder.tokens import TextTokenizer, Tokens

__all__ = ["ALONE_ROWS", "CHUNK_ROWS", "WINDOW_ROWS", "Pipeline"]

CHUNK_ROWS, WINDOW_ROWS = 2048, 16384
"""Rows of a batch. Batches run side by side, one a core, so they must be small enough to share
work out; windows pay for the edges of every stretch and want longer ones."""

ALONE_ROWS = 8192
"""A batch with a longer block than this is worked on by all cores, and no other beside it: there
may be no second one to share out, and the memory is that of one long document."""


@dataclass(frozen=True)
class Pipeline:
    """An encoder with everything that stands around it.

    Attributes:
        tokenizer: text to tokens.
        forward: packs to token states.
        head: token states to vectors.
        layers: number of layers; so many blocks away a window can hear of.
        longest: rows, special and prompt tokens included, of the longest block that fits the
            model's positions.
    """

    tokenizer: TextTokenizer
    forward: Forward
    head: Head
    layers: int
    longest: int

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
        jobs: deque[Job] = deque()
        running: deque[Future[_Delivery]] = deque()
        batch = _Batch(self, reader)
        for text in texts:
            job = self._job(text, reader, prompt, whole_up_to)
            jobs.append(job)
            for stretch in job.stretches(batch.limit):
                batch.add(stretch)
                if batch.full:
                    self._start(batch, running, on_tokens)
                    batch = _Batch(self, reader)
            while jobs and jobs[0].done:
                yield jobs.popleft().reading()
        if batch.stretches:
            self._start(batch, running, on_tokens)
        _settle(running, on_tokens, leave=0)
        yield from (job.reading() for job in jobs)

    def _start(
        self,
        batch: _Batch,
        running: deque[Future[_Delivery]],
        on_tokens: Callable[[int], None] | None,
    ) -> None:
        if batch.alone:
            _settle(running, on_tokens, leave=0)
            finished: Future[_Delivery] = Future()
            finished.set_result(batch.run())
            running.append(finished)
            _settle(running, on_tokens, leave=0)
            return
        running.append(self._workers.submit(batch.run))
        _settle(running, on_tokens, leave=2 * torch.get_num_threads())

    @cached_property
    def _workers(self) -> ThreadPoolExecutor:
        """One thread a core, each with products of one thread.

        Measured: two cores working on two batches are nearly twice as fast as two cores sharing
        every product, which wait for each other at the end of each.
        """
        return ThreadPoolExecutor(
            torch.get_num_threads(), "unabridged", initializer=torch.set_num_threads, initargs=(1,)
        )

    def _job(self, text: str, reader: Reader, prompt: str, whole_up_to: int | None) -> Job:
        tokens, prompt_ids = self._tokens(text, prompt)
        count = len(tokens)
        whole = whole_up_to is not None and count <= whole_up_to
        prefix, suffix = self.tokenizer.specials
        room = self.longest - len(prefix) - len(prompt_ids) - len(suffix)
        blocks = recut([(0, count)] if whole else reader.spans(count), room)
        late = reader.passage if isinstance(reader, Full) and not whole else None
        return Job(tokens, len(text), blocks, late, [*prefix, *prompt_ids], suffix)

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


_Owner = tuple[Job, int]
"""A document, and which of its blocks."""

_Delivery = list[tuple[Job, int, NDArray[np.float32]]]
"""Vectors (P, D) and where they belong: which block of which document."""


@dataclass
class _Batch:
    """Stretches that wait to be run together."""

    pipeline: Pipeline
    reader: Reader
    stretches: list[Stretch] = field(default_factory=list)
    rows: int = 0

    @property
    def limit(self) -> int:
        return WINDOW_ROWS if self.reader.context else CHUNK_ROWS

    @property
    def full(self) -> bool:
        return self.rows >= self.limit

    @property
    def alone(self) -> bool:
        return any(
            stretch.job.rows(index) > ALONE_ROWS
            for stretch in self.stretches
            for index in range(stretch.first, stretch.last)
        )

    def add(self, stretch: Stretch) -> None:
        self.stretches.append(stretch)
        self.rows += stretch.rows

    def run(self) -> _Delivery:
        """Read the stretches; touches no document, so that batches can run side by side."""
        blocks, owners = self._blocks()
        prefix = self.stretches[0].job.prefix
        specials = (len(prefix), len(self.stretches[0].job.suffix))
        packed, order = pack(blocks, self.reader.context, specials)
        states = self.pipeline.forward(packed)
        prompt_rows = slice(len(self.pipeline.tokenizer.specials[0]), len(prefix))
        delivery: _Delivery = []
        at = 0
        for tile in packed.tiles:
            shaped = states[tile.rows].view(tile.blocks, tile.length, -1)
            here = [owners[index] for index in order[at : at + tile.blocks]]
            delivery += self._pooled(shaped, here, prompt_rows)
            at += tile.blocks
        return delivery

    def _pooled(
        self, states: Tensor, owners: list[_Owner | None], prompt_rows: slice
    ) -> Iterator[tuple[Job, int, NDArray[np.float32]]]:
        """Vectors of a tile's blocks (B, T, D); a tile may hold whole blocks and cut ones."""
        head = self.pipeline.head
        owned = [(row, *owner) for row, owner in enumerate(owners) if owner is not None]
        whole = [row for row, job, _ in owned if job.late is None]
        vectors = dict(zip(whole, head(states[whole], prompt_rows).numpy(), strict=True))
        for row, job, block in owned:
            late = row not in vectors
            yield job, block, job.pool(states[row], head) if late else vectors[row][None]

    def _blocks(self) -> tuple[list[Block], list[_Owner | None]]:
        """Blocks of all stretches; those read only for their neighbours' sake have no owner."""
        blocks: list[Block] = []
        owners: list[_Owner | None] = []
        beside = bool(self.reader.context)
        for stretch in self.stretches:
            job, halo = stretch.job, self._halo(stretch.job)
            first, last = max(0, stretch.first - halo), min(len(job.blocks), stretch.last + halo)
            for index in range(first, last):
                here = len(blocks)
                before = here - 1 if beside and index > first else None
                after = here + 1 if beside and index < last - 1 else None
                blocks.append(Block(job.ids(index), before, after, self._temperature(job, index)))
                mine = stretch.first <= index < stretch.last
                owners.append((job, index) if mine else None)
        return blocks, owners

    def _halo(self, job: Job) -> int:
        """Blocks beyond a stretch that its own can have heard of: one more with every layer."""
        return self.pipeline.layers if self.reader.context and len(job.blocks) > 1 else 0

    def _temperature(self, job: Job, index: int) -> float:
        reader = self.reader
        return reader.temperature(job.rows(index)) if isinstance(reader, Full) else 1.0


def _settle(
    running: deque[Future[_Delivery]], on_tokens: Callable[[int], None] | None, *, leave: int
) -> None:
    """Deliver batches until at most `leave` are under way; an error of theirs is raised here."""
    while len(running) > leave:
        tokens = 0
        for job, index, vectors in running.popleft().result():
            job.vectors[index] = vectors
            start, end = job.blocks[index]
            tokens += end - start
        if on_tokens:
            on_tokens(tokens)
