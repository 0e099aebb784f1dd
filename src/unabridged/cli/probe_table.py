"""The outcome of a probe, for people and for machines."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from rich.table import Table
from rich.text import Text

from unabridged.cli.console import print_json, results, say
from unabridged.cli.probing import AS_NOW, Trial
from unabridged.collection import Settings
from unabridged.probing import DECISIVE, KINDS, Estimate, Outcome

__all__ = ["as_json", "explain", "show", "show_refusal"]

HEADS = ("Search", *map(str.capitalize, KINDS), "Max-sim", "One vector", "Vectors", "CPU s")


def show(outcome: Outcome) -> None:
    """A row a reader, the winner marked, and the verdict below."""
    title = f"Recall@1 of {outcome.queries:,} queries about {outcome.documents:,} documents"
    table = Table(title=title, title_justify="left", box=None, header_style="dim")
    table.add_column("Reader", min_width=20, overflow="fold")
    for head in (*HEADS, "To now"):
        table.add_column(head, justify="right")
    for standing in outcome.standings:
        is_winner = standing.name == outcome.verdict.winner
        gain = outcome.verdict.gains.get(standing.name)
        table.add_row(
            Text(standing.name, "bold green" if is_winner else ""),
            _interval(standing.recall[DECISIVE]),
            *(_share(standing.by_kind[kind]) for kind in KINDS),
            _share(standing.recall["best passage"].value),
            _share(standing.recall["one vector"].value),
            f"{standing.passages:,.1f}",
            f"{standing.seconds:,.1f}",
            "" if gain is None else _points(gain),
        )
    results().print(table)
    reason = outcome.verdict.reason
    results().print(Text.assemble("\nTake ", (outcome.verdict.winner, "bold"), f": {reason}."))


def explain(trial: Trial, settings: Settings | None) -> None:
    """What the columns mean, and what happens now."""
    say(
        "\nSearch: by the mean of the three best passages, as a collection ranks; titles, "
        "sentences and needles count a third each. Max-sim: by the best passage. One vector: by "
        "the mean of all. Vectors: of a document. To now: points more than the present reader. "
        "Intervals: 95 %, of differences 99 %."
    )
    if trial.gathered.cut:
        say(f"{trial.gathered.cut:,} documents were read to their first part only; see --longest.")
    for id, reason in trial.gathered.failed:
        say(f"Could not be read: {id}: {reason}")
    if settings is None:
        say("Interrupted: this is what was found so far, and nothing was written.")
        return
    say(f"Written to {trial.place / 'settings.json'}.")
    if trial.incumbent == AS_NOW or (trial.place / "collection.json").exists():
        say("The collection is as it was; where it was read otherwise, `index --anew` replaces it.")
    else:
        say("`unabridged index` of this folder will read it that way.")


def show_refusal(trial: Trial, *, as_json: bool) -> None:
    """Say why there is nothing to compare."""
    if as_json:
        print_json({"collection": str(trial.place), "verdict": None, "reason": trial.refusal})
        return
    results().print(trial.refusal, markup=False)
    say("Nothing was written.")


def as_json(trial: Trial, outcome: Outcome, settings: Settings | None) -> dict[str, Any]:
    """Everything, for machines; what could not be measured is null."""
    found = _without_nan(asdict(outcome))
    about = {
        "collection": str(trial.place),
        "seed": trial.seed,
        "positions": trial.positions,
        "settings": None if settings is None else asdict(settings),
        "cut": trial.gathered.cut,
        "failed": [{"id": id, "reason": reason} for id, reason in trial.gathered.failed],
    }
    return {**about, **found}


def _without_nan(value: Any) -> Any:  # noqa: ANN401  JSON is whatever it is
    if isinstance(value, dict):
        return {key: _without_nan(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(each) for each in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _share(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.0%}"


def _interval(recall: Estimate) -> str:
    return f"{recall.value:.0%} ±{(recall.high - recall.low) / 2:.0%}"


def _points(gain: Estimate) -> str:
    value, low, high = (f"{100 * part:+.0f}" for part in (gain.value, gain.low, gain.high))
    return f"{value} ({low}, {high})"
