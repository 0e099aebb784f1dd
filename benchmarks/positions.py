"""Which positions let one pass read a long document: recall@1 of every scheme, untrained.

Two sets of documents, each cut to 4,094 tokens: the pages of Python's standard library with at
least 1,500, and the transcripts of QMSum. Asked are the one-line summary of a page or the written
summaries of a meeting ("title"), sentences of the documents, and facts planted in them ("needle").
Every configuration is read once and kept in results/positions/; a later run goes on from there.

    python benchmarks/positions.py --data FOLDER
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from safetensors.torch import load_file, save_file

from machine import RESULTS, data_folder, report
from unabridged.cli import standard_library
from unabridged.encoder import Chunks, Full, LongEncoder, Reader, Truncate, Windows
from unabridged.encoder.checkpoint import find_checkpoint
from unabridged.encoder.extension import extend
from unabridged.positions import SCHEMES, Form, Scheme
from unabridged.probing.bootstrap import Estimate, Resampling
from unabridged.probing.contest import Contestant, Record, Scoring, read
from unabridged.probing.task import KINDS, Query, Source, Task, cut_to, prepare

SEED, LONGEST, SHORTEST = 7947, 4094, 1500
POSITIONS = LONGEST + 2
SCHEMES_AND_RIVALS = 4 + 2 * len(SCHEMES)
TABLE = "embeddings.position_embeddings.weight"
BASES = (253, 126)  # rows that training met most: inputs of 256 tokens, and of 128
ALPHAS = (0.2, 0.1, 0.6, 0.3, 0.7)
Line = tuple[str, str, Scoring]  # what it is called, configuration, how documents are scored


@dataclass(frozen=True)
class Configuration:
    """A reader, and the table that its model has; without a scheme, the model's own."""

    reader: Reader
    scheme: Scheme | None = None
    form: Form = "cls-safe"
    alpha: float | None = None
    base: int | None = None

    @property
    def name(self) -> str:
        """Of its file."""
        parts = [type(self.reader).__name__.lower()]
        parts += [f"{value}" for value in dataclasses.astuple(self.reader) if value is not None]
        parts += [] if self.scheme is None else [self.scheme, self.form]
        parts += [] if self.alpha is None else [f"{self.alpha:g}"]
        parts += [] if self.base is None else [f"base_{self.base}"]
        return "_".join(parts)

    def open(self) -> AbstractContextManager[LongEncoder]:
        """As a contestant opens."""
        return opened(self)


@contextmanager
def opened(made: Configuration) -> Iterator[LongEncoder]:
    """The literal forms are no option of `extend`, so their table is put into its folder."""
    if made.scheme is None:
        yield LongEncoder(reader=made.reader)
        return
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "model"
        options = {"scheme": made.scheme, "alpha": made.alpha, "base": made.base}
        extend(None, folder, max_length=POSITIONS, **options)
        if made.form == "literal":
            own = load_file(find_checkpoint(None).transformer / "model.safetensors")[TABLE]
            alpha = {} if made.alpha is None else {"alpha": made.alpha}
            longer = SCHEMES[made.scheme](own, POSITIONS, form="literal", **alpha)
            weights = {**load_file(folder / "model.safetensors"), TABLE: longer}
            save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        yield LongEncoder(folder, reader=made.reader)


def tables() -> list[tuple[Scheme, Form, float | None]]:
    alphas = {"hierarchical": 0.4, "interpolated-hierarchical": 0.4}
    return [(s, form, alphas.get(s)) for s in SCHEMES for form in ("literal", "cls-safe")]


def configurations() -> list[Configuration]:
    """The schemes first, then what is left out where time is short."""
    late = Full(126)
    plain = [Configuration(reader) for reader in (Truncate(), Chunks(), Chunks(254), Windows())]
    full = [Configuration(late, *table) for table in tables()]
    schemes = [("recurrent", None), ("hierarchical", 0.4), ("interpolated", None)]
    shorter = [
        Configuration(late, scheme, "cls-safe", alpha, base)
        for base in BASES
        for scheme, alpha in schemes
    ]
    log_length = dataclasses.replace(late, log_length=512)
    warm = [Configuration(log_length, *table) for table in tables()[:2]]
    sweep = [
        Configuration(late, "hierarchical", form, alpha)
        for alpha in ALPHAS
        for form in ("cls-safe", "literal")
    ]
    whole = [Configuration(Full(), *table) for table in tables()[1::-1]]
    return plain + full + warm + shorter[:3] + whole + shorter[3:] + sweep[::-1]


@cache
def counter() -> LongEncoder:
    return LongEncoder()


def short(text: str) -> str:
    return cut_to(text, LONGEST - 30, counter().count_tokens)  # a needle still has to go in


def standard_library_task() -> Task:
    """NAME's line is the title; the line above it names the module too, and is left out."""
    with tempfile.TemporaryDirectory() as place:
        folder = standard_library.write_all(Path(place))
        pages = {path.name: path.read_text() for path in sorted(folder.glob("*.txt"))}
    sources = []
    for name, page in pages.items():
        text = page.partition("\n")[2]
        line = text.partition("NAME\n")[2].partition("\n")[0].strip()
        if counter().count_tokens(text) >= SHORTEST:
            sources.append(Source(name, short(text), line))
    return prepare(sources, seed=SEED)


def qmsum_task(data: Path) -> Task:
    """Summaries of what was said before the cut, and of whole meetings, are the titles."""
    paths = sorted((data / "qmsum" / "documents").glob("*.txt"))
    texts = [short(path.read_text()) for path in paths]
    names = [path.stem for path in paths]
    task = prepare([Source(n, t, "-") for n, t in zip(names, texts, strict=True)], seed=SEED)
    queries = [query for query in task.queries if query.kind != "title"]
    for line in (data / "qmsum" / "queries.jsonl").read_text().splitlines():
        row = json.loads(line)
        document = names.index(row["document"])
        last = max((int(end) for _, end in row["spans"]), default=0)
        if last < texts[document].count("\n"):
            queries.append(Query(row["summary"], document, "title"))
    return Task(task.ids, task.texts, tuple(sorted(queries, key=lambda q: q.document)))


def digest(task: Task) -> str:
    """Records of another task are never mistaken for this one's."""
    return hashlib.sha256(repr(task).encode()).hexdigest()[:8]


def kept(folder: Path, made: Configuration, task: Task) -> Record:
    """The record of a configuration, from disk where it is there."""
    path = folder / f"{made.name}.npz"
    if not path.exists():
        contestant = Contestant(made.name, made.open)
        record = read(contestant, task)
        folder.mkdir(parents=True, exist_ok=True)
        stored = {
            "vectors": np.concatenate(record.vectors).astype(np.float16),
            "lengths": np.array([len(rows) for rows in record.vectors]),
            "queries": record.queries.astype(np.float16),
            "cost": np.array([record.seconds, record.tokens]),
        }
        np.savez(path.with_suffix(".new.npz"), **stored)
        path.with_suffix(".new.npz").rename(path)
        print(f"{folder.name}: {made.name} took {record.seconds:.1f} s", flush=True)
    found = np.load(path)
    vectors = np.split(found["vectors"].astype(np.float32), np.cumsum(found["lengths"])[:-1])
    seconds, tokens = found["cost"].tolist()
    queries = found["queries"].astype(np.float32)
    return Record(made.name, {}, tuple(vectors), queries, seconds, int(tokens))


def lines() -> list[Line]:
    """The rows of the table: the opponents first, then one vector, then late chunks."""
    rows: list[Line] = [
        ("truncate", "truncate_254", "one vector"),
        ("chunks 126, mean", "chunks_126_0", "one vector"),
        ("chunks 254, mean", "chunks_254_0", "one vector"),
        ("chunks 126, max-sim", "chunks_126_0", "best passage"),
        ("chunks 254, max-sim", "chunks_254_0", "best passage"),
        ("windows 126, max-sim", "windows_126_32", "best passage"),
    ]
    full = [c for c in configurations() if isinstance(c.reader, Full) and c.alpha in (None, 0.4)]
    for made in full:
        warm = "" if made.reader.log_length is None else ", log-length"
        base = "" if made.base is None else f", base {made.base}"
        of = f"full, {made.scheme} {made.form}{base}{warm}"
        pooled = "mean" if made.reader.passage else "pooled at once"
        rows.append((f"{of}, {pooled}", made.name, "one vector"))
        if made.reader.passage:
            rows.append((f"{of}, max-sim", made.name, "best passage"))
    return rows


def resampling(task: Task, chosen: Sequence[bool]) -> Resampling:
    documents = np.array([q.document for q in task.queries])[chosen]
    return Resampling(documents, np.zeros(len(documents), np.int64), seed=SEED)


def shown(value: Estimate, sign: str = "") -> str:
    return f"{value.value:{sign}.2f} ({value.low:{sign}.2f} to {value.high:{sign}.2f})"


def table_rows(task: Task, records: dict[str, Record]) -> list[dict]:
    """Recall@1 of all kinds with intervals, and of needles and sentences by quarter."""
    kinds = np.array([query.kind for query in task.queries])
    quarters = np.array([-1 if q.quarter is None else q.quarter for q in task.queries])
    rows = []
    for name, key, how in lines():
        if key not in records:
            continue
        record = records[key]
        hits = record.hits(task, how)
        row: dict[str, object] = {"reader": name}
        row["vectors"] = f"{record.passages if how != 'one vector' else 1:.0f}"
        row["CPU s"] = f"{record.seconds:.0f}"
        for kind in KINDS:
            chosen = kinds == kind
            row[kind] = shown(resampling(task, chosen).estimate(hits[chosen]))
        for kind in ("needle", "sentence"):
            by = [hits[(kinds == kind) & (quarters == q)].mean() for q in range(4)]
            row[f"{kind} by quarter"] = " ".join(f"{value:.2f}" for value in by)
        rows.append(row)
    return rows


def differences(task: Task, records: dict[str, Record]) -> dict[str, str]:
    """CLS-safe less literal, and one pass less its opponents, paired over documents."""
    by_name = {name: (key, how) for name, key, how in lines() if key in records}
    safe = [name for name in by_name if "cls-safe" in name]
    pairs = [(name, name.replace("cls-safe", "literal")) for name in safe]
    pairs += [
        (name, "chunks 126, max-sim" if "max-sim" in name else "chunks 126, mean") for name in safe
    ]
    pairs = [(one, other) for one, other in pairs if other in by_name]
    kinds = np.array([query.kind for query in task.queries])
    found = {}
    for one, other in pairs:
        hits = [records[key].hits(task, how) for key, how in (by_name[one], by_name[other])]
        parts = []
        for kind in KINDS:
            chosen = kinds == kind
            apart = resampling(task, chosen).estimate((hits[0] - hits[1])[chosen])
            parts.append(f"{kind} {shown(apart, '+')}")
        found[f"{one} - {other}"] = ", ".join(parts)
    return found


def sweep_rows(task: Task, records: dict[str, Record]) -> list[dict]:
    """Recall@1 of hierarchical tables for every alpha; recurrent is alpha 0."""
    kinds = np.array([query.kind for query in task.queries])
    rows = []
    for made in configurations():
        recurrent = made.scheme == "recurrent"
        of_sweep = made.reader == Full(126) and made.base is None
        if (
            not (of_sweep and (recurrent or made.scheme == "hierarchical"))
            or made.name not in records
        ):
            continue
        row: dict[str, object] = {"form": made.form, "alpha": 0.0 if recurrent else made.alpha}
        for how in ("one vector", "best passage"):
            hits = records[made.name].hits(task, how)
            row |= {f"{kind}, {how}": round(float(hits[kinds == kind].mean()), 3) for kind in KINDS}
        rows.append(row)
    return sorted(rows, key=lambda row: (row["form"], row["alpha"]))


def draw_sweep(rows: list[dict], title: str, path: Path) -> None:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(KINDS), figsize=(10, 3), sharey=True)
    for axis, kind in zip(axes, KINDS, strict=True):
        for form, colour in (("cls-safe", "tab:blue"), ("literal", "tab:red")):
            own = [row for row in rows if row["form"] == form]
            for how, dash in (("one vector", "-"), ("best passage", "--")):
                values = [row[f"{kind}, {how}"] for row in own]
                label = f"{form}, {'late chunks' if how == 'best passage' else how}"
                alphas = [row["alpha"] for row in own]
                axis.plot(alphas, values, dash, color=colour, marker=".", label=label)
        axis.set(title=kind, xlabel="alpha", ylim=(0, 1.02))
        axis.axvline(0.5, color="grey", linewidth=0.5)
    axes[0].set_ylabel("recall@1")
    axes[-1].legend(fontsize=7)
    figure.suptitle(title)
    figure.tight_layout()
    figure.savefig(path)
    print(f"drawn to {path}")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", help="development data; default UNABRIDGED_DATA")
    parser.add_argument("--most", type=int, default=1000, help="configurations read in this run")
    parser.add_argument("--backwards", action="store_true", help="the last ones first")
    parser.add_argument("--everything", action="store_true", help="all variants on QMSum too")
    options = parser.parse_args(arguments)
    tasks = {"standard_library": standard_library_task()}
    if data := data_folder(options.data):
        tasks["qmsum"] = qmsum_task(data)
    # The transcripts are there to confirm; variants are tried on the larger set alone.
    few = len(configurations()) if options.everything else SCHEMES_AND_RIVALS
    everything = [
        (made, name)
        for place, made in enumerate(configurations())
        for name in tasks
        if name != "qmsum" or place < few
    ]
    folders = {name: RESULTS / "positions" / f"{name}-{digest(t)}" for name, t in tasks.items()}
    missing = [(m, n) for m, n in everything if not (folders[n] / f"{m.name}.npz").exists()]
    missing = missing[::-1] if options.backwards else missing
    for made, name in missing[: options.most]:
        kept(folders[name], made, tasks[name])
    if len(missing) > options.most:
        print(f"{len(missing) - options.most} configurations are left; run again to go on.")
    done = [pair for pair in everything if pair not in missing[options.most :]]
    for name, task in tasks.items():
        records = {made.name: kept(folders[name], made, task) for made, n in done if n == name}
        sweep = sweep_rows(task, records)
        apart = differences(task, records)
        about = {"documents": len(task), "queries": len(task.queries), "differences": apart}
        print(f"\n## {name}\n")
        report(f"positions_{name}", table_rows(task, records), {**about, "sweep": sweep})
        draw_sweep(sweep, name.replace("_", " "), RESULTS / f"positions_{name}.svg")


if __name__ == "__main__":
    main()
