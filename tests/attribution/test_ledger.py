"""What is shown sums to the prediction, as text, as JSON, and as a plot."""

from __future__ import annotations

import json
import math
import sys

import pytest
import torch

from unabridged.attribution import Ledger


@pytest.fixture
def ledger():
    generator = torch.Generator().manual_seed(0)
    parts = torch.randn(3, 17, generator=generator, dtype=torch.float64)
    start, decay, rounding, residual = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    total = start + parts.sum(1) + decay + rounding + 1e-7 * residual
    ids = torch.arange(100, 117)
    return Ledger(ids, parts, start, decay, rounding, 1e-7 * residual, total)


@pytest.mark.parametrize("count", [0, 1, 5, 17, 40])
def test_entries_sum_to_the_prediction_to_the_last_bit(ledger, count):
    for row in range(len(ledger)):
        lines = ledger.entries(row, count=count)
        assert math.fsum(line.amount for line in lines) == float(ledger.prediction[row])


def test_table_shows_the_largest_first_and_names_examples(ledger):
    best = ledger.top(0, 1)[0]
    text = ledger.table(0, count=2, names={best.id: "minutes of May"})
    lines = text.splitlines()
    assert lines[1].endswith("minutes of May")
    assert lines[-1].endswith("prediction")
    shown = [float(line.split()[0]) for line in lines[:-2]]
    assert math.isclose(sum(shown), float(lines[-1].split()[0]), abs_tol=1e-6)


def test_json_reconciles_after_a_round_trip(ledger):
    document = json.loads(ledger.to_json(1, count=3))
    assert math.fsum(e["amount"] for e in document["entries"]) == document["prediction"]
    assert [e["id"] for e in document["entries"][1:4]] == [e.id for e in ledger.top(1, 3)]


def test_plot_has_one_bar_a_line_and_ends_at_the_prediction(ledger):
    pytest.importorskip("matplotlib")
    axes = ledger.plot(2, count=4)
    bars = axes.patches
    assert len(bars) == len(ledger.entries(2, count=4))
    end = bars[-1].get_x() + bars[-1].get_width()
    assert math.isclose(end, float(ledger.prediction[2]), rel_tol=1e-9)


def test_plot_without_matplotlib_says_how_to_install_it(ledger, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match="pip install matplotlib"):
        ledger.plot(0)


def test_contribution_of_an_unknown_id_is_refused(ledger):
    torch.testing.assert_close(
        ledger.contribution(torch.tensor([103, 100])), ledger.contributions[:, [3, 0]]
    )
    with pytest.raises(ValueError, match="id 5 took no part"):
        ledger.contribution(torch.tensor([5]))
