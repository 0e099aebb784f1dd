"""Whitening by the collection's own statistics, and the held-out check that may decline it.

The statistics come from the stored raw vectors, so nothing is ever encoded again. Questions are not
drawn like passages and need a mean of their own; since no questions are known when a folder is
indexed, sentences taken from the passages and encoded as questions stand in for them. The same
sentences serve the check: each must find the passage it was taken from, among the others, with
whitened vectors better than with raw ones.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unabridged.collection.catalogue import Catalogue, read_catalogue
from unabridged.collection.dense import Transform, unit_rows
from unabridged.collection.embedder import Embedder
from unabridged.collection.manifest import WhiteningRecord
from unabridged.collection.store import Store, vectors_of, writing
from unabridged.geometry.moments import Moments
from unabridged.geometry.whitening import Recipe, Whitening

__all__ = ["Calibration", "calibrate", "discard_others", "is_due", "load_calibration"]

FEWEST_PASSAGES = 64
PROBES = 256
CANDIDATES = 8192
GROWTH = 0.2
SEED = 20
LONGEST_SENTENCE = 16
_SENTENCE = re.compile(r"[^.!?。！？\n]{24,240}[.!?。！？\n]")


@dataclass(frozen=True, slots=True)
class Calibration:
    """Two maps into the space in which cosines are taken.

    Attributes:
        passages: for (rows, D) raw vectors of passages.
        queries: for (rows, D) raw vectors of queries.
    """

    passages: Transform
    queries: Transform


def load_calibration(folder: Path, record: WhiteningRecord | None) -> Calibration:
    """What the last decision says; the identity where it says raw or nothing was decided."""
    if record is None or not record.file:
        return Calibration(_unchanged, _unchanged)
    return _calibration(Whitening.load(folder / record.file))


def is_due(catalogue: Catalogue, record: WhiteningRecord | None) -> bool:
    """Whether a fifth of the passages has come or gone since the last decision."""
    if record is None:
        return catalogue.passages > 0
    ends = np.append(catalogue.starts, catalogue.passages)
    known = np.searchsorted(catalogue.revisions, record.revision, side="right")
    still_there = int(ends[known]) if len(catalogue) else 0
    churn = (catalogue.passages - still_there) + (record.passages - still_there)
    return churn > GROWTH * record.passages


def calibrate(store: Store, embedder: Embedder, folder: Path) -> WhiteningRecord:
    """Decide about whitening, and save the transform if the decision is for it.

    Args:
        store: its write lock held by the caller.
        embedder: encodes the sentences that stand in for questions.
        folder: of the collection.
    """
    catalogue = read_catalogue(store)
    revision = int(catalogue.revisions.max(initial=0))
    nothing = WhiteningRecord("raw", "", catalogue.passages, revision)
    if catalogue.passages < FEWEST_PASSAGES:
        few = f"{catalogue.passages} passages are too few for statistics ({FEWEST_PASSAGES} needed)"
        return replace(nothing, reason=few)
    sample = _sample(store, catalogue)
    queries = embedder.encode_query(sample.sentences)
    raw = _reciprocal_ranks(queries, sample)
    whitened = _held_out(queries, sample)
    figures = f"{whitened.mean():.3f} whitened, {raw.mean():.3f} raw"
    reason = f"mean reciprocal rank of {len(raw)} held-out sentences: {figures}"
    record = replace(
        nothing, reason=reason, mrr_raw=float(raw.mean()), mrr_whitened=float(whitened.mean())
    )
    if whitened.mean() <= raw.mean():
        return record
    name = f"whitening-{revision}-{catalogue.passages}.safetensors"
    whitening = _fit(sample.moments, queries.mean(axis=0))
    with writing("whiten"):
        whitening.save(folder / name)
    return replace(record, decision="whitened", file=name)


def discard_others(folder: Path, record: WhiteningRecord) -> None:
    """Delete the transforms that no manifest names any more."""
    for file in folder.glob("whitening-*"):
        if file.name != record.file:
            file.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class _Sample:
    moments: Moments
    candidates: NDArray[np.float32]  # (C, D) raw vectors of passages
    sentences: list[str]
    targets: NDArray[np.int64]  # (S,) which candidate each sentence was taken from


def _sample(store: Store, catalogue: Catalogue) -> _Sample:
    rng = np.random.default_rng(SEED)
    size = min(CANDIDATES, catalogue.passages)
    chosen = np.sort(rng.choice(catalogue.passages, size, replace=False))
    moments = Moments.empty(store.dimension)
    candidates = np.zeros((size, store.dimension), dtype=np.float32)
    for batch in store.scan_passages(["revision", "ordinal", "vector"]):
        places = catalogue.places_of(batch["revision"].to_numpy(), batch["ordinal"].to_numpy())
        vectors = vectors_of(batch["vector"])
        moments = moments.update(vectors)
        rows = np.minimum(np.searchsorted(chosen, places), size - 1)
        wanted = chosen[rows] == places
        candidates[rows[wanted]] = vectors[wanted]
    targets = np.sort(rng.choice(size, min(PROBES, size), replace=False))
    texts = _texts(store, catalogue, chosen[targets])
    return _Sample(moments, candidates, [_sentence(text, rng) for text in texts], targets)


def _texts(store: Store, catalogue: Catalogue, places: NDArray[np.int64]) -> list[str]:
    documents = np.searchsorted(catalogue.starts, places, side="right") - 1
    keys = zip(catalogue.revisions[documents], places - catalogue.starts[documents], strict=True)
    where = " OR ".join(f"(revision = {key} AND ordinal = {ordinal})" for key, ordinal in keys)
    found: dict[int, str] = {}
    for batch in store.scan_passages(["revision", "ordinal", "text"], where):
        at = catalogue.places_of(batch["revision"].to_numpy(), batch["ordinal"].to_numpy())
        found.update(zip(at.tolist(), batch["text"].to_pylist(), strict=True))
    return [found[place] for place in places.tolist()]


def _sentence(text: str, rng: np.random.Generator) -> str:
    sentences = _SENTENCE.findall(text)
    if sentences:
        return str(sentences[rng.integers(len(sentences))]).strip()
    words = text.split()
    start = int(rng.integers(max(1, len(words) - LONGEST_SENTENCE)))
    return " ".join(words[start : start + LONGEST_SENTENCE])[:240]


def _held_out(queries: NDArray[np.float32], sample: _Sample) -> NDArray[np.float64]:
    """(S,) reciprocal ranks, each half of the sentences centred by the mean of the other."""
    ranks = np.zeros(len(queries))
    for half in (slice(0, None, 2), slice(1, None, 2)):
        other = slice(1 - half.start, None, 2)
        whitening = _fit(sample.moments, queries[other].mean(axis=0))
        ranks[half] = _reciprocal_ranks(queries[half], sample, half, _calibration(whitening))
    return ranks


def _reciprocal_ranks(
    queries: NDArray[np.float32],
    sample: _Sample,
    chosen: slice = slice(None),
    maps: Calibration | None = None,
) -> NDArray[np.float64]:
    maps = maps or Calibration(_unchanged, _unchanged)
    passages = unit_rows(maps.passages(sample.candidates))
    scores = unit_rows(maps.queries(queries)) @ passages.T
    targets = sample.targets[chosen]
    own = scores[np.arange(len(targets)), targets]
    # Equals count against the target: a map that sends everything to one point finds nothing.
    return np.asarray(1.0 / (scores >= own[:, None]).sum(axis=1), dtype=np.float64)


def _fit(moments: Moments, query_mean: NDArray[np.float32]) -> Whitening:
    return Whitening.from_moments(moments, Recipe(shrinkage="ledoit_wolf"), query_mean=query_mean)


def _calibration(whitening: Whitening) -> Calibration:
    return Calibration(
        lambda vectors: np.asarray(whitening.transform(vectors), dtype=np.float32),
        lambda vectors: np.asarray(whitening.transform_query(vectors), dtype=np.float32),
    )


def _unchanged(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return vectors
