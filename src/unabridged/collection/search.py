"""A question to hits: exact cosines, BM25, their fusion, and the passages that say why.

Data flow:

    query ─ embedder ─► vector ─► cosines of all passages ─► mean of best three ─┐
          └─ words ─┬─► BM25 of all passages ─► mean of best three ──────────────┤
                    └─► BM25 of documents ───────────────────────────────────────┴─► z-scored sum
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from unabridged.collection.catalogue import Catalogue
from unabridged.collection.dense import DenseIndex
from unabridged.collection.fusion import fuse, mean_of_best
from unabridged.collection.hits import FoundPassage, Hit
from unabridged.collection.lexical import bm25
from unabridged.collection.store import Overtaken, Store

__all__ = ["WEIGHTS", "Mode", "Question", "answer"]

Mode = Literal["hybrid", "dense", "lexical"]

WEIGHTS: Mapping[str, float] = {"bm25": 0.5, "bm25_passages": 0.25, "dense": 0.25}
"""Of the z-scored parts of a document's hybrid score.

Words of the whole document and words that stand close together say different things: on meeting
transcripts the three together beat 0.7 BM25 and 0.3 dense by a point of nDCG@10 with summaries as
queries, and by one and a half with questions.
"""

PASSAGE_WEIGHTS: Mapping[str, float] = {"bm25": 0.5, "dense": 0.5}

PASSAGES_A_HIT = 3
MOST_LEXICAL_PASSAGES = 100_000
_SHOWN = [
    "revision", "ordinal", "char_start", "char_end", "token_start", "token_end",
    "line", "line_end", "page", "text",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, all defaults filled in.

    Attributes:
        text: the words.
        vector: (K,) unit vector in the index's space, or None for a lexical search.
        mode: which parts count.
        limit: at most so many hits.
        kept: (M,) documents that the filters let through.
    """

    text: str
    vector: NDArray[np.float32] | None
    mode: Mode
    limit: int
    kept: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class _Scores:
    documents: dict[str, NDArray[np.float32]]
    passages: dict[str, NDArray[np.float32]]
    passages_total: NDArray[np.float32]


def answer(
    question: Question, store: Store, catalogue: Catalogue, index: DenseIndex | None
) -> list[Hit]:
    """Rank documents, then fetch the passages of the best.

    Args:
        question: to be answered.
        store: at the version of the catalogue.
        catalogue: of the visible documents.
        index: of the passages; None for a lexical search.
    """
    scores = _score(question, store, catalogue, index)
    total = _total(scores.documents, WEIGHTS)
    allowed = question.kept & (total > 0) if question.mode == "lexical" else question.kept
    candidates = np.flatnonzero(allowed)
    best = candidates[np.argsort(-total[candidates], kind="stable")][: question.limit]
    places = {document: _best_passages(scores, catalogue, document) for document in best.tolist()}
    found = _fetch(store, catalogue, places, scores)
    return [
        Hit(
            document=catalogue.ids[document],
            score=float(total[document]),
            parts=_parts(scores.documents, document),
            passages=tuple(found[place] for place in chosen),
            path=catalogue.paths[document],
            metadata=catalogue.metadata[document],
        )
        for document, chosen in places.items()
    ]


def _score(
    question: Question, store: Store, catalogue: Catalogue, index: DenseIndex | None
) -> _Scores:
    documents: dict[str, NDArray[np.float32]] = {}
    passages: dict[str, NDArray[np.float32]] = {}
    if question.mode != "dense":
        documents["bm25"] = _bm25_of_documents(question.text, store, catalogue)
        passages["bm25"] = _bm25_of_passages(question.text, store, catalogue)
    if question.mode == "hybrid":
        documents["bm25_passages"] = mean_of_best(passages["bm25"], catalogue.starts)
    if index is not None and question.vector is not None:
        passages["dense"] = index.scores(question.vector)
        documents["dense"] = mean_of_best(passages["dense"], catalogue.starts)
    return _Scores(documents, passages, _total(passages, PASSAGE_WEIGHTS))


def _total(
    parts: Mapping[str, NDArray[np.float32]], weights: Mapping[str, float]
) -> NDArray[np.float32]:
    return next(iter(parts.values())) if len(parts) == 1 else fuse(parts, weights)


def _bm25_of_documents(text: str, store: Store, catalogue: Catalogue) -> NDArray[np.float32]:
    rows = bm25(store.documents, text, columns=["revision"], limit=len(catalogue))
    places = catalogue.documents_of(rows["revision"].to_numpy())
    return _spread(places, rows["_score"].to_numpy(), len(catalogue))


def _bm25_of_passages(text: str, store: Store, catalogue: Catalogue) -> NDArray[np.float32]:
    limit = min(catalogue.passages, MOST_LEXICAL_PASSAGES)
    rows = bm25(store.passages, text, columns=["revision", "ordinal"], limit=limit)
    places = catalogue.places_of(rows["revision"].to_numpy(), rows["ordinal"].to_numpy())
    return _spread(places, rows["_score"].to_numpy(), catalogue.passages)


def _spread(
    places: NDArray[np.int64], scores: NDArray[np.float32], size: int
) -> NDArray[np.float32]:
    dense = np.zeros(size, dtype=np.float32)
    dense[places[places >= 0]] = scores[places >= 0]
    return dense


def _best_passages(scores: _Scores, catalogue: Catalogue, document: int) -> list[int]:
    first, last = catalogue.span(document)
    total = scores.passages_total[first:last]
    best = np.argsort(-total, kind="stable")[:PASSAGES_A_HIT] + first
    return [int(place) for place in best]


def _fetch(
    store: Store, catalogue: Catalogue, wanted: Mapping[int, list[int]], scores: _Scores
) -> dict[int, FoundPassage]:
    clauses = []
    for document, places in wanted.items():
        ordinals = ", ".join(str(place - catalogue.span(document)[0]) for place in places)
        clauses.append(f"(revision = {catalogue.revisions[document]} AND ordinal IN ({ordinals}))")
    if not clauses:
        return {}
    total = scores.passages_total
    found: dict[int, FoundPassage] = {}
    for batch in store.scan_passages(_SHOWN, " OR ".join(clauses)):
        at = catalogue.places_of(batch["revision"].to_numpy(), batch["ordinal"].to_numpy())
        for place, row in zip(at.tolist(), batch.to_pylist(), strict=True):
            found[place] = _passage(row, float(total[place]), _parts(scores.passages, place))
    if len(found) < sum(len(places) for places in wanted.values()):
        raise Overtaken("passages of a document")
    return found


def _passage(row: dict[str, Any], score: float, parts: dict[str, float]) -> FoundPassage:
    return FoundPassage(
        text=row["text"],
        chars=(row["char_start"], row["char_end"]),
        tokens=(row["token_start"], row["token_end"]),
        line=row["line"],
        line_end=row["line_end"],
        page=row["page"],
        score=score,
        parts=parts,
    )


def _parts(scores: Mapping[str, NDArray[np.float32]], place: int) -> dict[str, float]:
    return {name: float(part[place]) for name, part in scores.items()}
