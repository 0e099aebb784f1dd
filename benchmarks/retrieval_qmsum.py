"""Which meeting was it? nDCG@10 and recall@1 over whole transcripts, summaries as queries.

LongEmbed's QMSum task (Zhu et al. 2024): every query is the written summary of an answer, the
relevant document is the one transcript that holds it. Lines differ in how a transcript is read and
scored; intervals are paired bootstraps over the queries.

    python benchmarks/retrieval_qmsum.py --data FOLDER
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import bm25s
import numpy as np
from numpy.typing import NDArray

from machine import data_folder, report
from unabridged.collection import Collection
from unabridged.collection.calibration import load_calibration
from unabridged.encoder import Chunks, LongEncoder, Truncate, Windows

Scores = NDArray[np.floating]
SEED, RESAMPLES = 8512, 10_000


@dataclass(frozen=True)
class Task:
    """Documents, queries, and which document answers each query."""

    ids: list[str]
    texts: list[str]
    queries: list[str]
    wanted: NDArray[np.int64]


def load_task(folder: Path) -> Task:
    paths = sorted((folder / "qmsum" / "documents").glob("*.txt"))
    ids = [path.stem for path in paths]
    lines = (folder / "qmsum" / "queries.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    return Task(
        ids=ids,
        texts=[path.read_text() for path in paths],
        queries=[row["summary"] for row in rows],
        wanted=np.array([ids.index(row["document"]) for row in rows]),
    )


def ranks(scores: Scores, task: Task) -> NDArray[np.int64]:
    """Rank of the wanted document, from 0; equal scores count against it."""
    own = scores[np.arange(len(scores)), task.wanted]
    return (scores >= own[:, None]).sum(1) - 1


def ndcg(rank: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.where(rank < 10, 1 / np.log2(rank + 2.0), 0.0)


def interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """95 % of the bootstrap distribution of the mean."""
    rng = np.random.default_rng(SEED)
    draws = rng.integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.quantile(values[draws].mean(1), [0.025, 0.975])
    return round(float(low), 3), round(float(high), 3)


def unit(rows: Scores) -> Scores:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def bm25_scores(task: Task) -> Scores:
    tokens = bm25s.tokenize(task.texts, stopwords="en", show_progress=False)
    index = bm25s.BM25()
    index.index(tokens, show_progress=False)
    queries = bm25s.tokenize(task.queries, stopwords="en", show_progress=False)
    found, scores = index.retrieve(queries, k=len(task.ids), show_progress=False)
    table = np.zeros((len(task.queries), len(task.ids)))
    np.put_along_axis(table, found, scores, axis=1)
    return table


def search_scores(collection: Collection, task: Task, mode: str) -> Scores:
    """The scores of the product itself; a document that is no hit has the lowest."""
    table = np.full((len(task.queries), len(task.ids)), -np.inf)
    for row, query in enumerate(task.queries):
        for hit in collection.search(query, mode=mode, limit=len(task.ids)):
            table[row, task.ids.index(hit.document)] = hit.score
    return table


def dense_lines(name: str, collection: Collection, encoder: LongEncoder, task: Task) -> dict:
    """Raw and whitened: best passage, mean of the best three, one vector a document."""
    record = collection.info().whitening
    calibration = load_calibration(collection.path, record)
    passages = [
        np.array([passage.vector for passage in collection.passages(id)], np.float32)
        for id in task.ids
    ]
    queries = np.asarray(encoder.encode_query(task.queries))
    lines: dict[str, Scores] = {}
    for kind, of_passages, of_queries in (
        ("raw", lambda x: x, lambda x: x),
        ("whitened", calibration.passages, calibration.queries),
    ):
        asked = unit(of_queries(queries))
        best = [-np.sort(-(asked @ unit(of_passages(rows)).T), axis=1) for rows in passages]
        means = np.stack([rows.mean(0) for rows in passages])
        lines[f"{name}, {kind}, best passage"] = np.stack([s[:, 0] for s in best], 1)
        lines[f"{name}, {kind}, mean of best three"] = np.stack([s[:, :3].mean(1) for s in best], 1)
        lines[f"{name}, {kind}, one vector"] = asked @ unit(of_passages(means)).T
    return lines


def all_lines(task: Task, encoders: dict[str, LongEncoder]) -> dict[str, Scores]:
    lines: dict[str, Scores] = {}
    for name, encoder in encoders.items():
        with tempfile.TemporaryDirectory() as folder:
            collection = Collection.open(Path(folder) / "c", encoder)
            collection.sync(zip(task.ids, task.texts, strict=True))
            print(f"{name}: {collection.info().whitening}")
            if isinstance(encoder.reader, Truncate):
                vectors = np.stack([collection.passages(id)[0].vector for id in task.ids])
                queries = np.asarray(encoder.encode_query(task.queries))
                lines["truncate, raw, one vector"] = unit(queries) @ unit(vectors).T
                continue
            lines.update(dense_lines(name, collection, encoder, task))
            lines[f"{name}, hybrid search"] = search_scores(collection, task, "hybrid")
            if "our BM25" not in lines:
                lines["our BM25"] = search_scores(collection, task, "lexical")
    lines["BM25 (bm25s)"] = bm25_scores(task)
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", help="development data; default UNABRIDGED_DATA")
    options = parser.parse_args(arguments)
    folder = data_folder(options.data)
    if folder is None:
        return
    task = load_task(folder)
    lines = all_lines(
        task,
        {
            "truncate": LongEncoder(reader=Truncate()),
            "chunks": LongEncoder(reader=Chunks()),
            "windows": LongEncoder(reader=Windows()),
            "chunks in float32": LongEncoder(reader=Chunks(), dtype="float32"),
        },
    )
    quality = {name: ndcg(ranks(scores, task)) for name, scores in lines.items()}
    rows = [
        {
            "system": name,
            "nDCG@10": round(float(values.mean()), 3),
            "95 % interval": "{} to {}".format(*interval(values)),
            "recall@1": round(float((ranks(lines[name], task) == 0).mean()), 3),
        }
        for name, values in quality.items()
    ]
    pairs = [
        (f"{r}, whitened, {how}", f"{base}, raw, {how}")
        for r, base in (("chunks", "chunks"), ("windows", "chunks"), ("windows", "windows"))
        for how in ("best passage", "mean of best three", "one vector")
    ]
    pairs += [(f"{r}, hybrid search", bm) for r in ("chunks", "windows")
              for bm in ("our BM25", "BM25 (bm25s)")]  # fmt: skip
    three = "whitened, mean of best three"
    pairs += [(f"chunks, {three}", f"{name}, {three}") for name in ("windows", "chunks in float32")]
    differences = {
        f"{one} - {other}": "{:+.3f} ({} to {})".format(
            float((quality[one] - quality[other]).mean()),
            *interval(quality[one] - quality[other]),
        )
        for one, other in pairs
    }
    report(
        "retrieval_qmsum",
        rows,
        {"documents": len(task.ids), "queries": len(task.queries), "differences": differences},
    )
    for name, difference in differences.items():
        print(f"{difference:28s} {name}")


if __name__ == "__main__":
    main()
