"""Texts as token blocks: tokenised once into a file, read from it by memory map, cut at will.

    corpus = Corpus.write("tokens", texts, load_tokenizer(folder, lowercase=False))
    batches = Batches(corpus.blocks(128), size=32, seed=0)
    batches(0).ids                                                  # (32, 128)

Neither writing nor reading holds more than one document in memory.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unabridged._reading import Span
from unabridged.training.errors import TrainingError
from unabridged.training.seeds import seed_of

__all__ = ["Batch", "Batches", "Blocks", "Corpus", "Source", "Tokenizer"]


class _Ids(Protocol):
    @property
    def ids(self) -> NDArray[np.int32]: ...


class Tokenizer(Protocol):
    """What `unabridged.encoder.tokens.load_tokenizer` gives."""

    @property
    def specials(self) -> tuple[list[int], list[int]]:
        """Ids that stand before and after a text."""
        ...

    def __call__(self, text: str) -> _Ids:
        """Tokens of a text of any length, special ones not among them."""
        ...


@dataclass(frozen=True)
class Batch:
    """Blocks side by side.

    Attributes:
        ids: (B, T) int64; 0 where a shorter block ended.
        real: (B, T) bool, True where a token is.
    """

    ids: Tensor
    real: Tensor

    @classmethod
    def of(cls, blocks: Sequence[Tensor]) -> Batch:
        """Blocks (T_i,) of equal or different lengths.

        >>> Batch.of([torch.tensor([7, 8]), torch.tensor([9])]).real.tolist()
        [[True, True], [True, False]]
        """
        ids = torch.nn.utils.rnn.pad_sequence([b.long() for b in blocks], batch_first=True)
        lengths = torch.tensor([len(block) for block in blocks])
        return cls(ids, torch.arange(ids.shape[1]) < lengths[:, None])

    @property
    def attention_mask(self) -> Tensor | None:
        """(B, T) int64 as transformers wants it; None where every token is real."""
        return None if bool(self.real.all()) else self.real.long()

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Corpus:
    """Documents as token ids, on disk.

    Attributes:
        ids: (N,) int32, all documents one after another, mapped from a file.
        ends: (d + 1,) int64, document i is `ids[ends[i]:ends[i + 1]]`.
        specials: ids before and after a text.
    """

    ids: NDArray[np.int32]
    ends: NDArray[np.int64]
    specials: tuple[tuple[int, ...], tuple[int, ...]]

    @classmethod
    def write(
        cls, folder: str | os.PathLike[str], texts: Iterable[str], tokenizer: Tokenizer
    ) -> Corpus:
        """Tokenise texts into a folder, one at a time, and open it."""
        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        ends = [0]
        with (place / "tokens.int32").open("wb") as file:
            for text in texts:
                ids = np.ascontiguousarray(tokenizer(text).ids, dtype="<i4")
                file.write(ids.tobytes())
                ends.append(ends[-1] + len(ids))
        before, after = tokenizer.specials
        facts = {"ends": ends, "before": before, "after": after}
        (place / "corpus.json").write_text(json.dumps(facts), encoding="utf-8")
        return cls.open(place)

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Corpus:
        """Open what `write` wrote.

        Raises:
            TrainingError: nothing is there, or it is not whole.
        """
        place = Path(folder)
        try:
            facts = json.loads((place / "corpus.json").read_text(encoding="utf-8"))
            size = (place / "tokens.int32").stat().st_size
        except (OSError, ValueError) as error:
            raise TrainingError(f"corpus: {place} holds none ({error}); write it first.") from error
        ends = np.array(facts["ends"], np.int64)
        if size != 4 * ends[-1]:
            raise TrainingError(f"corpus: {place} is not whole; remove it and write it again.")
        # An empty file cannot be mapped.
        mapped = np.memmap(place / "tokens.int32", "<i4", "r") if size else np.empty(0, np.int32)
        return cls(mapped, ends, (tuple(facts["before"]), tuple(facts["after"])))

    def __len__(self) -> int:
        """Number of documents."""
        return len(self.ends) - 1

    def document(self, index: int) -> NDArray[np.int32]:
        """(T,) the tokens of one document, without special ones."""
        return self.ids[self.ends[index] : self.ends[index + 1]]

    def lengths(self) -> NDArray[np.int64]:
        """(d,) tokens of every document, special ones not counted."""
        return np.diff(self.ends)

    def block(self, pieces: Sequence[Span]) -> Tensor:
        """(T,) int64, spans of `ids` one after another, special tokens around them."""
        before, after = (np.array(part, np.int32) for part in self.specials)
        whole = np.concatenate([before, *(self.ids[a:b] for a, b in pieces), after])
        return torch.from_numpy(whole.astype(np.int64))

    def blocks(
        self,
        length: int,
        *,
        over: Literal["stream", "documents"] = "stream",
        documents: Sequence[int] | None = None,
        shortest: int = 1,
    ) -> Blocks:
        """Cut into blocks for a model.

        Args:
            length: tokens of a block, special ones included.
            over: "stream": all blocks have this length and run on from one document into the
                next, and what fills no block is left out; "documents": a block is of one document,
                and the last of each is shorter.
            documents: their numbers; None for all.
            shortest: blocks of documents with fewer tokens, special ones not counted, are left out.

        Raises:
            ValueError: no room beside the special tokens, or not one block.
        """
        room = length - sum(map(len, self.specials))
        if room < 1:
            raise ValueError(
                f"Corpus.blocks: {length} tokens leave no room beside the special ones."
            )
        chosen = range(len(self)) if documents is None else documents
        spans = [(int(self.ends[i]), int(self.ends[i + 1])) for i in chosen]
        cut: list[tuple[Span, ...]]
        if over == "documents":
            cut = [
                ((start, min(start + room, last)),)
                for first, last in spans
                for start in range(first, last, room)
                if min(room, last - start) >= shortest
            ]
        else:
            cut = _stream(spans, room)
        if not cut:
            raise ValueError(
                f"Corpus.blocks: {len(spans)} documents with {sum(b - a for a, b in spans)} tokens "
                f"give not one block of {length}; take shorter blocks or more text."
            )
        return Blocks(self, tuple(cut))


@dataclass(frozen=True)
class Blocks:
    """Token blocks (T,) int64 of a corpus, special tokens around each, read when asked for.

    Attributes:
        corpus: where tokens are.
        places: of each block the spans of `corpus.ids` that it is made of.
    """

    corpus: Corpus
    places: tuple[tuple[Span, ...], ...]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Tensor:
        """Block number `index`."""
        return self.corpus.block(self.places[index])


class Source(Protocol):
    """Blocks by their numbers: `Blocks`, or a list of tensors."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Tensor: ...


@dataclass(frozen=True)
class Batches:
    """The batches of a run: every block once an epoch, in an order of the epoch's own.

    Attributes:
        blocks: what to draw from.
        size: B, blocks of a batch; the last of an epoch is filled up from the next one.
        seed: of the orders.

    >>> blocks = [torch.tensor([n]) for n in range(5)]
    >>> sorted(int(n) for step in range(2) for n in Batches(blocks, size=5, seed=1)(step).ids)
    [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    """

    blocks: Source
    size: int
    seed: int = 0

    def __call__(self, number: int) -> Batch:
        """Batch number `number`, counted from 0."""
        return Batch.of([self.blocks[index] for index in self.indices(number)])

    def indices(self, number: int) -> list[int]:
        """Which blocks it holds."""
        count = len(self.blocks)
        places = range(number * self.size, (number + 1) * self.size)
        return [int(_order(count, self.seed, place // count)[place % count]) for place in places]


@lru_cache(maxsize=4)
def _order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed_of(seed, epoch)).permutation(count)


def _stream(spans: Sequence[Span], room: int) -> list[tuple[Span, ...]]:
    """Fill blocks of `room` tokens from spans one after another."""
    blocks: list[tuple[Span, ...]] = []
    pieces: list[Span] = []
    free = room
    for start, end in spans:
        while start < end:
            taken = min(free, end - start)
            pieces.append((start, start + taken))
            start, free = start + taken, free - taken
            if not free:
                blocks.append(tuple(pieces))
                pieces, free = [], room
    return blocks
