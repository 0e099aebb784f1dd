"""One vector of one pass over a whole document, before and after `adapt`, against chunk means.

all-MiniLM-L6-v2 is extended to 4,096 positions and adapted on documentation (the standard
library's, and docstrings of installed packages), within 20 minutes, preparation included. On other
documents of the same kind, 1,500 to 4,000 tokens long, four ways to one vector a document are
compared by recall@1: the title (held back from the text), sentences of the document, and questions
about facts planted in it, with a paired bootstrap over documents.

Interrupted (Ctrl-C, SIGTERM), it saves; the same command continues.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from documentation import Page, pages
from machine import report
from unabridged import LongEncoder
from unabridged.encoder.extension import extend
from unabridged.encoder.reading import Chunks, Full, Truncate
from unabridged.probing.bootstrap import Resampling
from unabridged.probing.task import Source, Task, prepare
from unabridged.training.adaptation import Recipe, adapt

LENGTH, SHORTEST, LONGEST = 4096, 1500, 4000
KINDS = ("title", "sentence", "needle")


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--work", type=Path, default=Path("results/adaptation"))
    options.add_argument("--minutes", type=float, default=18.0, help="of training alone")
    options.add_argument("--more", type=float, default=0.0, help="minutes of a second sitting")
    options.add_argument("--held-out", type=int, default=200, help="documents to compare on")
    options.add_argument("--rate", type=float, default=5e-5)
    options.add_argument("--seed", type=int, default=0)
    given = options.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    folder, task = documents(given)
    extended = given.work / "extended"
    if not extended.exists():
        extend(None, extended, max_length=LENGTH)
    recipe = Recipe(minutes=given.minutes, rate=given.rate, seed=given.seed)
    sittings = [("extended", "adapted", recipe)]
    if given.more:
        more = {"minutes": given.more, "seed": given.seed + 1, "teacher": str(extended)}
        sittings.append(("adapted", "adapted-again", replace(recipe, **more)))
    for before, after, how in sittings:
        if not (given.work / after).exists():
            wall, processor = time.perf_counter(), time.process_time()
            places = (given.work / before, folder, given.work / after)
            made = adapt(*places, recipe=how, on_step=tell)
            note(given.work, "seconds", time.perf_counter() - wall)
            note(given.work, "processor seconds", time.process_time() - processor)
            if made.ended == "interrupted":
                print("interrupted; the same command continues")
                return
    compare(given, task)


def documents(given: argparse.Namespace) -> tuple[Path, Task]:
    """A folder to train on, and the task of documents held out."""
    folder, kept = given.work / "train", given.work / "held_out.json"
    if not folder.exists():
        found = pages(given.work / "documentation")
        counter = LongEncoder()
        lengths = [counter.count_tokens(page.text) for page in found]
        fitting = [n for n, tokens in enumerate(lengths) if SHORTEST <= tokens <= LONGEST]
        order = np.random.default_rng(given.seed).permutation(fitting)
        held = sorted(order[: given.held_out].tolist())
        kept.write_text(json.dumps([vars(found[n]) for n in held]))
        unfinished = given.work / "train.unfinished"
        unfinished.mkdir(exist_ok=True)
        for page in (page for n, page in enumerate(found) if n not in set(held)):
            (unfinished / f"{page.name}.txt").write_text(page.text, encoding="utf-8")
        unfinished.rename(folder)
    held_out = [Page(**fields) for fields in json.loads(kept.read_text())]
    sources = [Source(page.name, page.text, page.title) for page in held_out]
    return folder, prepare(sources, seed=1)


def compare(given: argparse.Namespace, task: Task) -> None:
    extended, adapted = given.work / "extended", given.work / "adapted"
    again = given.work / "adapted-again"
    last = again if given.more else adapted
    ways = {
        "truncated to 254 tokens": (None, Truncate(254)),
        "mean of chunks of 126": (None, Chunks(126)),
        "mean of chunks of 254": (None, Chunks(254)),
        "one pass, extended": (extended, Full()),
        "one pass, adapted": (adapted, Full()),
        "one pass, adapted again": (again, Full()),
        "mean of chunks of 254, adapted": (last, Chunks(254)),
    }
    if not given.more:
        del ways["one pass, adapted again"]
    hits = {name: found(given.work, name, *way, task) for name, way in ways.items()}
    owners = np.array([query.document for query in task.queries])
    kinds = np.array([KINDS.index(query.kind) for query in task.queries])
    spent = json.loads((given.work / "spent.json").read_text())
    rows = [
        row(name, values, (owners, kinds), hits["mean of chunks of 254"])
        for name, values in hits.items()
    ]
    sittings = [adapted, again] if given.more else [adapted]
    made = [json.loads((folder / "adaptation.json").read_text()) for folder in sittings]
    report(
        "adaptation",
        rows,
        {
            "adapting took": ", ".join(f"{v:,.0f} {k}" for k, v in spent.items()),
            "training": "; ".join(
                f"{m['steps']} steps on {m['documents']} documents, held-out loss "
                f"{m['loss_before']:.4f} -> {m['loss']:.4f}"
                for m in made
            ),
            "compared on": f"{len(task)} documents, {len(task.queries)} queries",
            "recall@1": "by title, sentence, planted needle; difference to chunks of 254 in points "
            "with a 95 % interval, documents drawn",
        },
    )


def found(work: Path, name: str, model: Path | None, reader: object, task: Task) -> np.ndarray:
    """(Q,) 1 where the document of a query came first by one vector a document; kept on disk."""
    kept = work / f"{name}.npy"
    if kept.exists():
        return np.load(kept)
    encoder = LongEncoder(model, reader=reader)  # type: ignore[arg-type]
    vectors = np.stack([reading.vector for reading in encoder.read_many(task.texts)])
    asked = encoder.encode_query([query.text for query in task.queries])
    scores = unit(asked) @ unit(vectors).T
    own = scores[np.arange(len(scores)), [query.document for query in task.queries]]
    hits = ((scores >= own[:, None]).sum(1) == 1).astype(np.float64)
    np.save(kept, hits)
    return hits


def row(name: str, values: np.ndarray, where: tuple[np.ndarray, np.ndarray], base: np.ndarray):
    owners, kinds = where
    cells = {"one vector a document": name}
    for index, kind in enumerate(KINDS):
        own = kinds == index
        draws = Resampling(owners[own], np.zeros(int(own.sum()), np.int64), seed=0)
        apart = draws.estimate(values[own] - base[own])
        cells[kind] = f"{values[own].mean():.3f}"
        cells[f"{kind}, difference"] = (
            f"{100 * apart.value:+.1f} [{100 * apart.low:+.1f}, {100 * apart.high:+.1f}]"
        )
    return cells


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def note(work: Path, what: str, seconds: float) -> None:
    """Add to what was spent; interrupted runs count together."""
    path = work / "spent.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    known[what] = known.get(what, 0.0) + seconds
    path.write_text(json.dumps(known))


def tell(step) -> None:
    if step.number % 20 == 0 or step.held_out is not None:
        seen = "" if step.held_out is None else f", held out {step.held_out:.4f}"
        print(f"step {step.number}, loss {step.loss:.4f}{seen}, {step.seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
