"""Another reader wins only if it is clearly better, whatever the seed."""

from __future__ import annotations

import numpy as np
import pytest

from unabridged.probing.bootstrap import Resampling
from unabridged.probing.verdict import Candidate, decide

DOCUMENTS = np.arange(101)
KINDS = np.zeros(101, int)


def hits(share: float, seed: int = 0) -> np.ndarray:
    found = np.zeros(101)
    found[np.random.default_rng(seed).permutation(101)[: round(share * 101)]] = 1
    return found


def verdict(*candidates: Candidate, seed: int = 0):
    return decide(candidates, "now", Resampling(DOCUMENTS, KINDS, seed=seed))


NOW = Candidate("now", hits(0.5), 10)


def test_equals_leave_everything_as_it_is():
    found = verdict(NOW, Candidate("twin", NOW.hits, 1), Candidate("other", hits(0.52, 1), 1))
    assert found.winner == "now"
    assert "no reader is clearly better" in found.reason


def test_a_clearly_better_reader_wins():
    better = Candidate("better", np.maximum(NOW.hits, hits(0.6, 1)), 99)
    found = verdict(NOW, better, Candidate("worse", hits(0.2), 1))
    assert found.winner == "better"
    assert found.gains["better"].low > 0 > found.gains["worse"].high


def test_a_certain_gain_too_small_to_matter_does_not_win():
    documents = np.arange(5001)
    flat = np.zeros(5001)
    more = flat.copy()
    more[:50] = 1
    resampling = Resampling(documents, np.zeros(5001, int), seed=0)
    found = decide([Candidate("now", flat, 1), Candidate("more", more, 1)], "now", resampling)
    assert found.gains["more"].low > 0
    assert found.winner == "now"


@pytest.mark.parametrize("cheap", ["one", "other"])
def test_of_two_equally_better_ones_the_cheaper_wins(cheap):
    better = np.maximum(NOW.hits, hits(0.7, 1))
    least = better.copy()
    least[np.flatnonzero(better)[0]] = 0
    pair = {"one": better, "other": least}
    candidates = [Candidate(name, found, 1 if name == cheap else 5) for name, found in pair.items()]
    assert verdict(NOW, *candidates).winner == cheap


def test_who_is_alone_wins():
    assert verdict(NOW).winner == "now"
    assert verdict(NOW).reason == "now had no rival"


def test_the_seed_of_the_bootstrap_does_not_change_a_clear_verdict():
    better = Candidate("better", np.maximum(NOW.hits, hits(0.6, 1)), 99)
    assert {verdict(NOW, better, seed=seed).winner for seed in range(20)} == {"better"}
    assert {verdict(NOW, Candidate("o", hits(0.5, 2), 9), seed=s).winner for s in range(20)} == {
        "now"
    }


def test_chance_alone_seldom_wins():
    """Readers that differ by noise only: 100 pairs, of which one is expected to win."""
    wins = sum(
        verdict(
            Candidate("now", hits(0.5, 2 * n), 1), Candidate("o", hits(0.5, 2 * n + 1), 1)
        ).winner
        != "now"
        for n in range(100)
    )
    assert wins <= 4
