"""A contest in figures: recall of every reader, with intervals, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from unabridged.probing.bootstrap import Estimate, Resampling
from unabridged.probing.contest import SCORINGS, Contestant, Record, Scoring
from unabridged.probing.rounds import Round
from unabridged.probing.task import KINDS, QUARTERS, Kind, Task
from unabridged.probing.verdict import Candidate, Verdict, decide

__all__ = ["DECISIVE", "Outcome", "Standing", "evaluate"]

DECISIVE: Scoring = "best three"
"""The verdict is about what a collection's search does."""


@dataclass(frozen=True, slots=True)
class Standing:
    """One reader.

    Attributes:
        name: of the contestant.
        passages: vectors a document, on average.
        seconds: processor seconds that reading took.
        recall: share of queries whose document came first, mean of the kinds, for every scoring.
        by_kind: the same for each kind of query, with the decisive scoring.
        by_quarter: recall of sentences and needles by the quarter of the document they stand in,
            with the decisive scoring; NaN where there were none.
    """

    name: str
    passages: float
    seconds: float
    recall: Mapping[Scoring, Estimate]
    by_kind: Mapping[Kind, float]
    by_quarter: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """All readers.

    Attributes:
        documents: how many were read.
        queries: how many were asked.
        standings: in the order of the contestants.
        verdict: which reader to take.
    """

    documents: int
    queries: int
    standings: tuple[Standing, ...]
    verdict: Verdict


def evaluate(
    finished: Round, contestants: Sequence[Contestant], incumbent: str, *, seed: int
) -> Outcome:
    """Count what was found, and decide.

    Args:
        finished: the last round.
        contestants: who took part.
        incumbent: name of the reader that stays unless another is clearly better.
        seed: of the bootstrap.
    """
    task = finished.task
    documents = np.array([query.document for query in task.queries])
    kinds = np.array([KINDS.index(query.kind) for query in task.queries])
    resampling = Resampling(documents, kinds, seed=seed)
    standings = tuple(_standing(record, task, resampling) for record in finished.records)
    candidates = [
        Candidate(record.name, record.hits(task, DECISIVE), record.seconds)
        for contestant, record in zip(contestants, finished.records, strict=True)
        if contestant.role == "choice"
    ]
    verdict = decide(candidates, incumbent, resampling)
    return Outcome(len(task), len(task.queries), standings, verdict)


def _standing(record: Record, task: Task, resampling: Resampling) -> Standing:
    hits = {how: record.hits(task, how) for how in SCORINGS}
    decisive = hits[DECISIVE]
    kinds = np.array([query.kind for query in task.queries])
    quarters = np.array([-1 if q.quarter is None else q.quarter for q in task.queries])
    return Standing(
        record.name,
        record.passages,
        record.seconds,
        {how: resampling.estimate(found) for how, found in hits.items()},
        {kind: _mean(decisive[kinds == kind]) for kind in KINDS},
        tuple(_mean(decisive[quarters == quarter]) for quarter in range(QUARTERS)),
    )


def _mean(values: np.typing.NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else float("nan")
