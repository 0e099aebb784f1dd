"""One pass over long documents, end to end: multipole attention and PyTorch's fused attention.

Every run is a process of its own: it loads the default model with a longer position table, reads a
short text to warm up, and reads the document once. Runs alternate. Documents are pages about
Python's packages, put one after another, so nothing is needed beside the project. Vectors are kept
with the run that made them, so that a long exact run need not be repeated.

    python benchmarks/attention.py --lengths 1024 4096 16384 --rounds 3
    python benchmarks/attention.py --lengths 65536 --rounds 1 --dtype float32
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch

from documentation import pages
from machine import RESULTS, PeakMemory, report
from unabridged.attention.multipole import Multipole
from unabridged.encoder import LongEncoder
from unabridged.encoder.checkpoint import find_checkpoint
from unabridged.encoder.extension import extend
from unabridged.encoder.reading import Full
from unabridged.encoder.tokens import load_tokenizer

LONGEST = 65_536
CACHE = (RESULTS / "attention").absolute()
ATTENTIONS = {"exact": None, "multipole": Multipole(short=0)}


def document(length: int) -> str:
    """Text of exactly so many tokens, two special ones counted; kept in a file."""
    place = CACHE / f"document-{length}.txt"
    if not place.exists():
        tokenizer = load_tokenizer(find_checkpoint().transformer, lowercase=True)
        text = "\n".join(page.text for page in pages(CACHE))[: length * 12]
        place.write_text(text[: int(tokenizer(text).chars[length - 3, 1])], encoding="utf-8")
    return place.read_text(encoding="utf-8")


def longer_model() -> Path:
    """The default model with room for the longest document, made once."""
    folder = CACHE / f"model-{LONGEST}"
    if not folder.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        extend(None, folder, max_length=LONGEST)
    return folder


def run_once(attention: str, length: int, dtype: str) -> None:
    """Read one document and print seconds and megabytes; what a child process does."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    encoder = LongEncoder(
        longer_model(), reader=Full(), dtype=dtype, attention=ATTENTIONS[attention]
    )
    text = document(length)
    encoder.encode(text[:4000])
    memory = PeakMemory()
    start, processor = time.perf_counter(), time.process_time()
    vector = encoder.encode(text)
    seconds, processor = time.perf_counter() - start, time.process_time() - processor
    found = {
        "attention": attention,
        "length": length,
        "dtype": dtype,
        "seconds": seconds,
        "processor": processor,
        "megabytes": memory.growth(),
        "threads": torch.get_num_threads(),
        "vector": np.asarray(vector, np.float32).tolist(),
    }
    print(json.dumps(found))


def child(attention: str, length: int, dtype: str) -> dict:
    command = [sys.executable, __file__, "--child", attention, "--lengths", str(length)]
    done = subprocess.run(
        [*command, "--dtype", dtype], capture_output=True, text=True, check=True, env=os.environ
    )
    return json.loads(done.stdout.splitlines()[-1])


def kept(length: int, dtype: str) -> Path:
    """Where runs of one length, dtype, number of threads and settings are kept."""
    threads = os.environ.get("OMP_NUM_THREADS", os.cpu_count())
    settings = hashlib.sha256(repr(ATTENTIONS).encode()).hexdigest()[:8]
    return CACHE / f"runs-{length}-{dtype}-{threads}-{settings}.json"


def measured(length: int, dtype: str, rounds: int) -> dict[str, list[dict]]:
    """Alternating runs, added to those that are kept."""
    place = kept(length, dtype)
    runs = json.loads(place.read_text()) if place.exists() else {}
    for _ in range(rounds):
        for name in ATTENTIONS:
            runs.setdefault(name, []).append(child(name, length, dtype))
            place.write_text(json.dumps(runs))
    return runs


def row(length: int, dtype: str, runs: dict[str, list[dict]]) -> dict:
    def of(name: str, what: str) -> float:
        return median(run[what] for run in runs[name])

    exact, ours = (np.asarray(runs[name][-1]["vector"]) for name in ATTENTIONS)
    cosine = exact @ ours / np.linalg.norm(exact) / np.linalg.norm(ours)
    return {
        "tokens": length,
        "dtype": dtype,
        "runs": min(map(len, runs.values())),
        "fused, s": round(of("exact", "seconds"), 2),
        "multipole, s": round(of("multipole", "seconds"), 2),
        "times faster": round(of("exact", "seconds") / of("multipole", "seconds"), 2),
        "of processor time": round(of("exact", "processor") / of("multipole", "processor"), 2),
        "fused, MB": round(of("exact", "megabytes")),
        "multipole, MB": round(of("multipole", "megabytes")),
        "microseconds a token": round(1e6 * of("multipole", "seconds") / length),
        "cosine": round(float(cosine), 5),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--lengths", type=int, nargs="+", default=[1024, 2048, 4096, 8192, 16384])
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--rounds", type=int, default=3, help="0 prints the runs that are kept")
    parser.add_argument("--child", choices=list(ATTENTIONS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        run_once(options.child, options.lengths[0], options.dtype)
        return
    longer_model()
    for length in options.lengths:
        document(length)
    rows = [
        row(length, options.dtype, measured(length, options.dtype, options.rounds))
        for length in options.lengths
    ]
    report(
        f"attention-{options.dtype}",
        rows,
        {"multipole": repr(ATTENTIONS["multipole"]), "threads of the runs": threads(options)},
    )


def threads(options: argparse.Namespace) -> str:
    places = (kept(n, options.dtype) for n in options.lengths)
    runs = (json.loads(place.read_text()) for place in places)
    return ", ".join(sorted({str(run["threads"]) for one in runs for run in one["multipole"]}))


if __name__ == "__main__":
    main()
