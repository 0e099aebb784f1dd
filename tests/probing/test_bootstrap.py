"""The bootstrap draws documents, weighs kinds alike, and pairs systems."""

from __future__ import annotations

import numpy as np
import pytest

from reference_probing import bootstrap_means, mean_of_kinds
from unabridged.probing.bootstrap import Resampling

RNG = np.random.default_rng(23)
DOCUMENTS = np.repeat(np.arange(17), 3)
KINDS = np.tile([0, 1, 1], 17)
VALUES = RNG.random(51).round()


@pytest.fixture
def resampling():
    return Resampling(DOCUMENTS, KINDS, seed=0)


def test_the_mean_counts_every_kind_alike(resampling):
    expected = mean_of_kinds(VALUES.tolist(), KINDS.tolist())
    assert resampling.mean(VALUES) == pytest.approx(expected, abs=1e-12)
    assert resampling.mean(VALUES) != pytest.approx(VALUES.mean(), abs=1e-3)


def test_the_interval_is_that_of_copied_documents(resampling):
    lists = (VALUES.tolist(), DOCUMENTS.tolist(), KINDS.tolist())
    means = bootstrap_means(*lists, draws=2000, seed=1)
    low, high = np.quantile(means, [0.025, 0.975])
    found = resampling.estimate(VALUES)
    assert found.low == pytest.approx(low, abs=0.02)
    assert found.high == pytest.approx(high, abs=0.02)


def test_queries_of_one_document_are_not_independent():
    whole = np.repeat(RNG.random(17).round(), 3)
    width = [
        np.subtract(
            *(lambda e: (e.high, e.low))(Resampling(d, np.zeros(51, int), seed=0).estimate(whole))
        )
        for d in (DOCUMENTS, np.arange(51))
    ]
    assert width[0] > 1.4 * width[1]


def test_a_system_does_not_differ_from_itself(resampling):
    nothing = resampling.estimate(VALUES - VALUES)
    assert (nothing.value, nothing.low, nothing.high) == (0, 0, 0)


def test_higher_confidence_gives_a_wider_interval(resampling):
    wide, narrow = (resampling.estimate(VALUES, confidence=c) for c in (0.99, 0.9))
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high


def test_equal_seeds_give_equal_intervals(resampling):
    again = Resampling(DOCUMENTS, KINDS, seed=0)
    assert again.estimate(VALUES) == resampling.estimate(VALUES)
    assert Resampling(DOCUMENTS, KINDS, seed=1).estimate(VALUES) != resampling.estimate(VALUES)


def test_a_kind_without_queries_does_not_count():
    apart = Resampling(np.arange(4), np.array([0, 0, 2, 2]), seed=0)
    assert apart.mean(np.array([1.0, 1.0, 0.0, 0.0])) == 0.5


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(5)
    covered = 0
    for seed in range(100):
        values = (rng.random(60) < 0.3).astype(float)
        found = Resampling(np.arange(60), np.zeros(60, int), seed=seed).estimate(values)
        covered += found.low <= 0.3 <= found.high
    assert 0.87 < covered / 100 < 0.99
