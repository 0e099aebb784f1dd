"""Would another sample of documents have led `unabridged probe` to another verdict?

The documents that `benchmarks/positions.py` has read are parted into two random halves, again and
again; each half is a probe of its own, with its own bootstrap, and the two must agree. Incumbents
are passages read one by one, and, to see the verdict change, the literal one pass.

    python benchmarks/positions.py --data FOLDER; python benchmarks/probe_verdicts.py --data FOLDER
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from machine import RESULTS, data_folder, report
from positions import configurations, digest, kept, qmsum_task, standard_library_task
from unabridged.probing import DECISIVE, Record, Task, decide
from unabridged.probing.bootstrap import Resampling
from unabridged.probing.task import KINDS
from unabridged.probing.verdict import Candidate

SEED, SPLITS = 4, 12
INCUMBENTS = ("chunks_126_0", "full_126_hierarchical_literal_0.4")
COMPARED_ONLY = ("truncate_254", "chunks_254_0")


def records_there(task: Task, folder: Path) -> dict[str, Record]:
    there = [made for made in configurations() if (folder / f"{made.name}.npz").exists()]
    chosen = [made for made in there if made.name not in COMPARED_ONLY]
    return {made.name: kept(folder, made, task) for made in chosen}


def winner(
    task: Task, records: dict[str, Record], chosen: NDArray[np.int64], incumbent: str, seed: int
) -> str:
    """The verdict of a probe that had seen these documents only."""
    rows = [row for row, query in enumerate(task.queries) if query.document in chosen]
    queries = [task.queries[row] for row in rows]
    own = np.searchsorted(chosen, [query.document for query in queries])
    kinds = np.array([KINDS.index(query.kind) for query in queries])
    candidates = []
    for name, record in records.items():
        scores = record.scores(DECISIVE)[rows][:, chosen]
        best = scores >= scores[np.arange(len(own)), own][:, None]
        hits = np.asarray(best.sum(axis=1) == 1, np.float64)
        candidates.append(Candidate(name, hits, record.seconds))
    return decide(candidates, incumbent, Resampling(own, kinds, seed=seed)).winner


def rows_of(name: str, task: Task, records: dict[str, Record]) -> list[dict]:
    rng = np.random.default_rng(SEED)
    splits = [np.array_split(rng.permutation(len(task)), 2) for _ in range(SPLITS)]
    halves = [np.sort(half) for split in splits for half in split]
    rows = []
    for incumbent in INCUMBENTS:
        won = [winner(task, records, half, incumbent, n) for n, half in enumerate(halves)]
        agreed = sum(one == other for one, other in zip(won[::2], won[1::2], strict=True))
        counts = ", ".join(f"{w} {n}" for w, n in Counter(won).most_common())
        rows.append(
            {
                "documents": name,
                "in a half": len(task) // 2,
                "candidates": len(records),
                "incumbent": incumbent,
                "halves agree": f"{agreed} of {SPLITS}",
                "winners": counts,
            }
        )
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", help="development data; default UNABRIDGED_DATA")
    options = parser.parse_args(arguments)
    tasks = {"standard_library": standard_library_task()}
    if data := data_folder(options.data):
        tasks["qmsum"] = qmsum_task(data)
    rows = []
    for name, task in tasks.items():
        folder = RESULTS / "positions" / f"{name}-{digest(task)}"
        records = records_there(task, folder)
        if not set(INCUMBENTS) <= set(records):
            print(f"skipped: {folder} has no records; run benchmarks/positions.py first.")
            continue
        rows += rows_of(name, task, records)
    if rows:
        report("probe_verdicts", rows)


if __name__ == "__main__":
    main()
