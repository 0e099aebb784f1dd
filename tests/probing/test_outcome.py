"""From rounds to figures, to a verdict, and to a picture."""

from __future__ import annotations

import pytest

from reference_collection import prose
from reference_probing import contestant, found, mean_of_kinds
from unabridged._errors import UnabridgedError
from unabridged.probing import KINDS, Source, evaluate, hold, prepare
from unabridged.probing.plot import draw

SOURCES = [Source(f"{n}", f"Subject {n}\n{prose(n, 300)}") for n in range(23)]
PEOPLE = [
    contestant("cut", "comparison", words=30),
    contestant("half", words=120),
    contestant("all"),
]


def outcome(incumbent: str = "half", seed: int = 0):
    *_, last = hold(PEOPLE, prepare(SOURCES, seed=seed), [300] * 23)
    return last, evaluate(last, PEOPLE, incumbent, seed=seed)


def test_recall_is_the_mean_of_the_kinds():
    last, figures = outcome()
    kinds = [KINDS.index(query.kind) for query in last.task.queries]
    for record, standing in zip(last.records, figures.standings, strict=True):
        for how, recall in standing.recall.items():
            expected = mean_of_kinds(found(record, last.task, how), kinds)
            assert recall.value == pytest.approx(expected, abs=1e-9)
            assert recall.low <= recall.value <= recall.high
        assert standing.recall["best three"].value == pytest.approx(
            sum(standing.by_kind.values()) / 3, abs=1e-9
        )


def test_who_reads_half_finds_little_in_the_other_half():
    _, figures = outcome()
    half, whole = figures.standings[1:]
    assert max(half.by_quarter[2:]) < min(whole.by_quarter[2:])
    assert half.by_quarter[0] > 2 * half.by_quarter[3]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_better_reader_wins_whatever_the_seed(seed):
    assert outcome("half", seed)[1].verdict.winner == "all"
    assert outcome("all", seed)[1].verdict.winner == "all"


def test_who_is_there_for_comparison_cannot_win():
    _, figures = outcome()
    assert set(figures.verdict.gains) == {"all"}


def test_the_picture_is_drawn_in_the_kind_that_its_name_says(tmp_path):
    _, figures = outcome()
    draw(figures, tmp_path / "a.svg")
    assert "<svg" in (tmp_path / "a.svg").read_text()
    draw(figures, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UnabridgedError, match="could not be written"):
        draw(figures, tmp_path / "a.nonsense")
    with pytest.raises(UnabridgedError, match="could not be written"):
        draw(figures, tmp_path / "nowhere" / "a.svg")
