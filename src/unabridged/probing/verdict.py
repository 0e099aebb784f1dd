"""Which reader a collection should have: another one only if it is clearly better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unabridged.probing.bootstrap import Estimate, Resampling

__all__ = ["CONFIDENCE", "LEAST_GAIN", "Candidate", "Verdict", "decide"]

CONFIDENCE = 0.99
"""Of the interval that must lie above zero; higher than usual, because many are compared."""
LEAST_GAIN = 0.02
"""Recall that is worth reading a folder anew."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A way to read that could be chosen.

    Attributes:
        name: of the contestant.
        hits: (Q,) 1 where it found the right document, else 0.
        seconds: processor seconds that it took.
    """

    name: str
    hits: NDArray[np.float64]
    seconds: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was decided.

    Attributes:
        winner: name of the contestant.
        incumbent: the one that stays unless another is clearly better.
        gains: recall of every other candidate less that of the incumbent, with its interval.
        reason: in one sentence.
    """

    winner: str
    incumbent: str
    gains: Mapping[str, Estimate]
    reason: str


def decide(candidates: Sequence[Candidate], incumbent: str, resampling: Resampling) -> Verdict:
    """Keep the incumbent unless another is clearly better; of equally good ones take the cheapest.

    Clearly better means a gain of at least `LEAST_GAIN` whose interval of `CONFIDENCE`, by a paired
    bootstrap over documents, lies above zero. Of those that are, the best by its mean wins, or a
    cheaper one that the best is not clearly better than.

    Args:
        candidates: the incumbent among them.
        incumbent: its name.
        resampling: of the documents that the hits are about.
    """
    by_name = {candidate.name: candidate for candidate in candidates}
    current = by_name[incumbent]
    others = [candidate for candidate in candidates if candidate.name != incumbent]
    gains = {each.name: _gain(each, current, resampling) for each in others}
    better = [each for each in others if _clear(gains[each.name])]
    if not better:
        return Verdict(incumbent, incumbent, gains, _nobody(incumbent, gains))
    best = max(better, key=lambda each: resampling.mean(each.hits))
    equals = [each for each in better if not _clear(_gain(best, each, resampling))]
    winner = min(equals, key=lambda each: each.seconds)
    gain = gains[winner.name]
    reason = (
        f"{winner.name} finds {gain.value:+.1%} more than {incumbent}, "
        f"{gain.low:+.1%} to {gain.high:+.1%} at {CONFIDENCE:.0%}"
    )
    return Verdict(winner.name, incumbent, gains, reason)


def _gain(one: Candidate, other: Candidate, resampling: Resampling) -> Estimate:
    return resampling.estimate(np.subtract(one.hits, other.hits), confidence=CONFIDENCE)


def _clear(gain: Estimate) -> bool:
    return gain.low > 0 and gain.value >= LEAST_GAIN


def _nobody(incumbent: str, gains: Mapping[str, Estimate]) -> str:
    if not gains:
        return f"{incumbent} had no rival"
    nearest = max(gains, key=lambda name: gains[name].value)
    gain = gains[nearest]
    return (
        f"no reader is clearly better than {incumbent}; the best other, {nearest}, differs by "
        f"{gain.value:+.1%}, {gain.low:+.1%} to {gain.high:+.1%} at {CONFIDENCE:.0%}"
    )
