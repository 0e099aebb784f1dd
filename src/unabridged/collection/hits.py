"""What a search gives back."""

from __future__ import annotations

from dataclasses import dataclass

from unabridged._reading import Span

__all__ = ["FoundPassage", "Hit"]


@dataclass(frozen=True, slots=True)
class FoundPassage:
    """A passage of a hit.

    Attributes:
        text: the passage, exactly `document_text[chars[0]:chars[1]]`.
        chars: character span in the document.
        tokens: token span in the document.
        line: line on which it begins, counted from 1.
        line_end: line on which it ends.
        page: page on which it begins, counted from 1, or None where there are no pages.
        score: by which the passages of a hit are ordered.
        parts: what went into the score: "dense" a cosine, "bm25" of the passage.
    """

    text: str
    chars: Span
    tokens: Span
    line: int
    line_end: int
    page: int | None
    score: float
    parts: dict[str, float]


@dataclass(frozen=True, slots=True)
class Hit:
    """A document that answers a query.

    Attributes:
        document: its id.
        score: the higher, the better: a cosine (dense), BM25 (lexical), or a sum of z-scores.
        parts: "dense" the mean cosine of the best three passages, "bm25" of the whole document,
            "bm25_passages" the mean BM25 of the best three passages.
        passages: the best passages, best first.
        path: of its file, or None.
        metadata: as stored.
    """

    document: str
    score: float
    parts: dict[str, float]
    passages: tuple[FoundPassage, ...]
    path: str | None
    metadata: dict[str, str]
