"""Does a whitening chosen without labels help, and does it ever hurt?

Semantic similarity (STS 2012 to 2014, each year's test pairs together, Spearman x 100) and
retrieval (QMSum, 281 summaries as queries, nDCG@10 x 100 of the best three passages of a meeting),
each with three kinds of vectors: raw, the published full whitening, the label-free choice, and the
best recipe of the same grid by the labels themselves (which nobody has; the bound). Statistics are
those of the texts themselves, without their scores.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr

from unabridged.geometry.moments import Moments
from unabridged.geometry.recipe import Recipe
from unabridged.geometry.whitening import Whitening
from unabridged.geometry.whitening_tuner import default_candidates, tune_whitening
from whitening_vectors import CELLS, Vectors, data_folder, encode, halves

WORDS = 90  # a passage of a transcript
LOSS_RECIPE = Recipe(beta=0.0, gamma=0.0, dimension=96)


@dataclass
class Task:
    """Texts with their halves, and the measure of a whitening on them."""

    name: str
    texts: Vectors
    first: Vectors
    second: Vectors
    measure: Callable[[str, Whitening], float]


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def encoded_halves(texts: list[str]) -> tuple[Vectors, Vectors]:
    """Vectors of both halves of every text, NaN where a text has one word only."""
    long = np.array([len(text.split()) > 1 for text in texts])
    sides = []
    for part in halves(texts):
        vectors = {}
        for cell, rows in encode(part).items():
            vectors[cell] = np.full((len(texts), rows.shape[1]), np.nan, np.float32)
            vectors[cell][long] = rows
        sides.append(vectors)
    return sides[0], sides[1]


def joined(parts: list[Vectors]) -> Vectors:
    return {cell: np.concatenate([part[cell] for part in parts]) for cell in CELLS}


def sts_tasks(folder: Path) -> Iterator[Task]:
    """One task a year, all pairs of the year's test sets together."""
    for year in ("2012", "2013", "2014"):
        gold: list[float] = []
        sides: list[tuple[Vectors, Vectors, Vectors]] = []
        left, right = [], []
        for path in sorted(folder.glob(f"{year}.*.tsv")):
            rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
            texts = [row[1] for row in rows] + [row[2] for row in rows]
            start = 2 * len(gold)
            gold += [float(row[0]) for row in rows]
            left += range(start, start + len(rows))
            right += range(start + len(rows), start + 2 * len(rows))
            sides.append((encode(texts), *encoded_halves(texts)))
        texts, first, second = (joined([side[i] for side in sides]) for i in range(3))

        def measure(
            cell: str,
            whitening: Whitening,
            texts: Vectors = texts,
            gold: list[float] = gold,
            pairs: tuple[list[int], list[int]] = (left, right),
        ) -> float:
            rows = unit(np.asarray(whitening.transform(texts[cell])))
            cosines = (rows[pairs[0]] * rows[pairs[1]]).sum(axis=1)
            return 100 * float(spearmanr(cosines, gold).statistic)

        yield Task(f"STS {year}", texts, first, second, measure)


def qmsum_task(folder: Path) -> Task:
    """Passages of 90 words; a meeting scores by its three best passages."""
    passages, owners, names = [], [], []
    for path in sorted((folder / "documents").glob("*.txt")):
        words = path.read_text(encoding="utf-8").split()
        parts = [" ".join(words[i : i + WORDS]) for i in range(0, len(words), WORDS)]
        passages += parts
        owners += [len(names)] * len(parts)
        names.append(path.stem)
    lines = (folder / "queries.jsonl").read_text(encoding="utf-8").splitlines()
    queries = [json.loads(line) for line in lines]
    right = np.array([names.index(query["document"]) for query in queries])
    asked = encode([query["summary"] for query in queries])
    texts = encode(passages)
    document = np.array(owners)

    def measure(cell: str, whitening: Whitening) -> float:
        rows = unit(np.asarray(whitening.transform(texts[cell])))
        questions = asked[cell]
        own = whitening.with_query_mean(questions.mean(axis=0))
        similarity = unit(np.asarray(own.transform_query(questions))) @ rows.T
        scores = np.stack(
            [np.sort(similarity[:, document == i])[:, -3:].mean(axis=1) for i in range(len(names))],
            axis=1,
        )
        own_score = scores[np.arange(len(right)), right][:, None]
        rank = (scores > own_score).sum(axis=1)
        return 100 * float(np.where(rank < 10, 1 / np.log2(rank + 2), 0).mean())

    return Task("QMSum", texts, *encoded_halves(passages), measure)


def row_of(task: Task, cell: str) -> dict:
    """Every figure of one task and one kind of vector."""
    moments = Moments.of(task.texts[cell])
    recipes = default_candidates(moments.dimension)
    tuning = tune_whitening(task.texts[cell], task.first[cell], task.second[cell])
    scores = [task.measure(cell, Whitening.from_moments(moments, r)) for r in recipes]
    raw = task.measure(cell, Whitening.identity(moments.dimension))
    chosen = tuning.recipe
    return {
        "task": task.name,
        "vectors": cell,
        "texts": len(task.texts[cell]),
        "raw": raw,
        "paper": task.measure(cell, Whitening.from_moments(moments)),
        "choice": task.measure(cell, tuning.whitening),
        "best": max(raw, *scores),
        "rotated_96": task.measure(cell, Whitening.from_moments(moments, LOSS_RECIPE)),
        "recipe": "identity" if chosen is None else describe(chosen),
        "gain": tuning.gain,
    }


def describe(recipe: Recipe) -> str:
    return (
        f"beta {recipe.beta:g} gamma {recipe.gamma:g} k {recipe.dimension or 'all'}"
        f"{'' if recipe.shrinkage == 'none' else ' ' + recipe.shrinkage}"
    )


def show(report: dict) -> None:
    print(
        f"{report['machine']}; {report['date']}; torch {report['torch']}, numpy {report['numpy']}"
    )
    print(
        f"{'task':9s} {'vectors':11s} {'raw':>6s} {'paper':>6s} {'choice':>6s} {'best':>6s} "
        f"{'-raw':>6s} {'-best':>6s} {'k=96':>6s}  chosen"
    )
    for row in report["rows"]:
        figures = [row[k] for k in ("raw", "paper", "choice", "best")]
        figures += [row["choice"] - row["raw"], row["choice"] - row["best"]]
        figures.append(row["rotated_96"])
        print(
            f"{row['task']:9s} {row['vectors']:11s} "
            + " ".join(f"{figure:6.2f}" for figure in figures)
            + f"  {row['recipe']}"
        )
    below = [row for row in report["rows"] if row["choice"] < row["raw"] - 0.2]
    far = [row for row in report["rows"] if row["choice"] < row["best"] - 0.5]
    count = len(report["rows"])
    print(f"more than 0.2 below raw: {len(below)} of {count}")
    print(f"more than 0.5 below the best by labels: {len(far)} of {count}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="folder with sts/ and qmsum/; else UNABRIDGED_DATA")
    parser.add_argument("--out", type=Path, default=Path("results/whitening_sts.json"))
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    tasks = [*sts_tasks(data_folder(arguments.data, "sts"))]
    tasks.append(qmsum_task(data_folder(arguments.data, "qmsum")))
    report = {
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "date": datetime.date.today().isoformat(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "rows": [row_of(task, cell) for task in tasks for cell in CELLS],
    }
    show(report)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
