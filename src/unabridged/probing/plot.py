"""The contest as a picture: what each reader finds and costs, and where in a document it finds."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from unabridged._pictures import blank, save
from unabridged.probing.outcome import DECISIVE, Outcome, Standing
from unabridged.probing.task import QUARTERS

__all__ = ["draw"]


def draw(outcome: Outcome, path: Path) -> None:
    """Write a picture; its kind is what the name says, such as .svg or .png.

    Args:
        outcome: what was found.
        path: of the file.

    Raises:
        UnabridgedError: matplotlib is not installed, or cannot write this.
    """
    names = [standing.name for standing in outcome.standings]
    places = np.arange(len(names))[::-1]
    figure = blank(11, 1.6 + 0.4 * len(names))
    found, cost, depth = figure.subplots(1, 3)
    recalls = [standing.recall[DECISIVE] for standing in outcome.standings]
    values = np.array([recall.value for recall in recalls])
    spread = np.abs(np.array([[r.low, r.high] for r in recalls]).T - values)
    colours = ["C1" if name == outcome.verdict.winner else "C0" for name in names]
    found.barh(places, values, xerr=spread, color=colours, error_kw={"capsize": 2})
    found.set(title="recall@1 of search, 95 %", yticks=places, yticklabels=names, xlim=(0, 1))
    cost.barh(places, [standing.seconds for standing in outcome.standings], color=colours)
    cost.set(title="processor seconds", yticks=[])
    for standing in _worth_a_line(outcome):
        depth.plot(range(1, QUARTERS + 1), standing.by_quarter, marker=".", label=standing.name)
    depth.set(title="recall by quarter", xticks=range(1, QUARTERS + 1), ylim=(0, 1.02))
    depth.legend(fontsize=8)
    save(figure, path)


def _worth_a_line(outcome: Outcome) -> list[Standing]:
    """The first, which reads the beginning only, the incumbent, the winner, the best other one."""
    verdict = outcome.verdict
    first = outcome.standings[0].name
    named = {first, verdict.incumbent, verdict.winner}
    others = [standing for standing in outcome.standings if standing.name not in named]
    best = max(others, key=lambda standing: standing.recall[DECISIVE].value, default=None)
    return [each for each in outcome.standings if each.name in named or each is best]
