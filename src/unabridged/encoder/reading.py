"""Readers: how a document's tokens become blocks that the encoder can take, and passages again.

A passage is a block: [CLS], its tokens, [SEP]. `Windows` lets every block look at its neighbours
while it is read (late chunking without a second pass), `Chunks` reads every block for itself,
`Full` makes the whole document one block, `Truncate` does what everybody else does, for comparison.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from unabridged._reading import Span

__all__ = ["Chunks", "Full", "Reader", "ReaderName", "Truncate", "Windows", "cut", "make_reader"]

ReaderName = Literal["windows", "chunks", "full", "truncate"]


@dataclass(frozen=True)
class Chunks:
    """Independent passages.

    Attributes:
        passage: tokens of a passage, special ones not counted.
        overlap: tokens that a passage shares with the one before.
    """

    passage: int = 126
    overlap: int = 0

    @property
    def context(self) -> int:
        """A chunk sees nothing but itself."""
        return 0

    def spans(self, tokens: int) -> list[Span]:
        """Cut `tokens` tokens; the last two spans share what is left evenly.

        >>> Chunks(passage=10).spans(23)
        [(0, 10), (10, 17), (17, 23)]
        """
        return cut(tokens, self.passage, self.overlap)


@dataclass(frozen=True)
class Windows:
    """One stream: passages that see their neighbourhood while they are read.

    In every layer a block's keys are its own tokens, [CLS] and [SEP], and the `context` tokens
    before and after it, so that with every layer a passage hears of one more passage on either
    side. Positions begin anew in every block, within the length that the model was trained for.

    Attributes:
        passage: tokens of a passage, special ones not counted.
        context: tokens seen on either side in each layer.
    """

    passage: int = 126
    context: int = 32

    def __post_init__(self) -> None:
        if not 0 < self.context <= self.passage // 2:
            raise ValueError(
                f"Windows: context is {self.context}, wanted 1 to half a passage "
                f"({self.passage // 2}); use Chunks for passages that see nothing else."
            )

    def spans(self, tokens: int) -> list[Span]:
        """Cut `tokens` tokens; the last two spans share what is left evenly."""
        return cut(tokens, self.passage)


@dataclass(frozen=True)
class Full:
    """One pass over the whole document, through a model with that many positions.

    Every token sees every other one. A document longer than the model's positions is read in as
    few equal passes as hold it, each of which sees nothing of the others: `extend` the model to
    keep it in one.

    Attributes:
        passage: tokens of a late chunk, a passage pooled from the states of the one pass (Guenther
            et al. 2024, arXiv 2409.04701), special ones not among them; None for one vector of all.
        log_length: tokens the model was trained on. Scores of a longer pass of n rows are
            multiplied by ln n / ln log_length, which keeps attention as peaked as it was (Su, post
            8823; Scalable-Softmax, arXiv 2501.19399); None leaves them.
    """

    passage: int | None = None
    log_length: int | None = None

    def __post_init__(self) -> None:
        if self.passage is not None and self.passage < 1:
            raise ValueError(
                f"Full: passage is {self.passage} tokens; wanted at least 1, or None for one "
                "vector of the whole document."
            )
        if self.log_length is not None and self.log_length < 2:
            raise ValueError(
                f"Full: log_length is {self.log_length} tokens; wanted the length that the model "
                "was trained on, usually 512, or None."
            )

    @property
    def context(self) -> int:
        """There is nothing outside the one block."""
        return 0

    def spans(self, tokens: int) -> list[Span]:
        """All tokens, as one span."""
        return [(0, tokens)] if tokens else []

    def temperature(self, rows: int) -> float:
        """What the scores of a pass over `rows` rows are multiplied by.

        >>> Full(log_length=512).temperature(262144), Full(log_length=512).temperature(100)
        (2.0, 1.0)
        """
        if self.log_length is None or rows <= self.log_length:
            return 1.0
        return math.log(rows) / math.log(self.log_length)


@dataclass(frozen=True)
class Truncate:
    """The first passage only: what other tools read, here to be compared with."""

    passage: int = 254

    @property
    def context(self) -> int:
        """The one passage sees nothing but itself."""
        return 0

    def spans(self, tokens: int) -> list[Span]:
        """The first span, whatever follows it."""
        return [(0, min(tokens, self.passage))] if tokens else []


Reader = Windows | Chunks | Full | Truncate


def make_reader(reader: Reader | ReaderName) -> Reader:
    """A reader by its name, with its defaults; a reader is handed back as it is."""
    if not isinstance(reader, str):
        return reader
    named: dict[str, type[Reader]] = {
        "windows": Windows,
        "chunks": Chunks,
        "full": Full,
        "truncate": Truncate,
    }
    if reader not in named:
        raise ValueError(f"reader: got {reader!r}, wanted one of {', '.join(named)}.")
    return named[reader]()


def cut(tokens: int, passage: int, overlap: int = 0) -> list[Span]:
    """Spans of `passage` tokens; the last two share what is left evenly."""
    if not 0 <= overlap < passage:
        raise ValueError(
            f"reader: overlap is {overlap} and a passage {passage} tokens; wanted an overlap of "
            "at least 0 and less than a passage."
        )
    if tokens <= passage:
        return [(0, tokens)] if tokens else []
    stride = passage - overlap
    full = math.ceil((tokens - passage) / stride) - 1  # passages before the last two
    rest = full * stride
    length = min(passage, math.ceil((tokens - rest + overlap) / 2))
    return [
        *((i * stride, i * stride + passage) for i in range(full)),
        (rest, rest + length),
        (rest + length - overlap, tokens),
    ]
