"""Kill an indexing run at random moments, again and again; compare with an uninterrupted one.

The documents are the QMSum meeting transcripts (or any folder, with --folder). Each child process
loads the encoder, says when it begins to read, and is killed with SIGKILL at a random moment after
that. What stands after each death must be whole; what stands in the end must equal a collection
that was never interrupted: the same documents, passages, offsets, and vectors to float16.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import lancedb
import numpy as np
import torch

from unabridged.collection import Collection
from unabridged.encoder import LongEncoder

SOURCE = "QMSum, https://github.com/Yale-LILY/QMSum (MIT)"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    data = os.environ.get("UNABRIDGED_DATA")
    parser.add_argument("--data", type=Path, default=Path(data) if data else None)
    parser.add_argument("--folder", type=Path, help="index these documents instead of QMSum's")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--longest", type=float, default=15.0, help="seconds before a kill")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("results/kill_resume.json"))
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


def child(folder: str, path: str) -> None:
    with Collection.open(path, LongEncoder()) as collection:
        print("reading", flush=True)
        collection.sync(folder)
        print("done", flush=True)


def run_and_kill(folder: Path, path: Path, delay: float, threads: int) -> bool:
    """One child; True if it was killed before it had done."""
    command = [sys.executable, __file__, "--child", str(folder), str(path)]
    command += ["--threads", str(threads)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        try:
            process.wait(delay)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        return process.wait() == -signal.SIGKILL


def contents(path: Path, encoder: LongEncoder) -> dict:
    with Collection.open(path, encoder) as collection:
        return {
            summary.id: (summary.content_hash, collection.passages(summary.id))
            for summary in collection.list()
        }


def compare(one: dict, other: dict) -> dict:
    """Counts of what differs, and the largest difference between two vectors."""
    places = worst = vectors = 0
    for id in one.keys() & other.keys():
        (hash_a, a), (hash_b, b) = one[id], other[id]
        places += hash_a != hash_b or len(a) != len(b)
        for p, q in zip(a, b, strict=False):
            places += (p.text, p.chars, p.tokens, p.line) != (q.text, q.chars, q.tokens, q.line)
            difference = float(np.abs(p.vector - q.vector).max())
            vectors += difference > 0
            worst = max(worst, difference)
    return {
        "documents_missing": len(one.keys() ^ other.keys()),
        "passages_that_differ": places,
        "vectors_not_bit_equal": vectors,
        "largest_difference_of_a_component": worst,
    }


def main() -> None:
    given = arguments()
    torch.set_num_threads(given.threads)
    if given.child:
        child(*given.child)
        return
    folder = given.folder or (given.data and given.data / "qmsum" / "documents")
    if not folder or not folder.is_dir():
        print(f"kill_resume: no documents; give --data or --folder. Original: {SOURCE}")
        return
    result = measure(given, folder)
    for name, value in result.items():
        print(f"{name:38} {value}")
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(result, indent=2))


def measure(given: argparse.Namespace, folder: Path) -> dict:
    rng = np.random.default_rng(given.seed)
    encoder = LongEncoder()
    with tempfile.TemporaryDirectory() as scratch:
        killed, whole = Path(scratch, "killed"), Path(scratch, "whole")
        deaths, committed = 0, []
        for _ in range(given.kills):
            delay = rng.uniform(0, given.longest)
            deaths += run_and_kill(folder, killed, delay, given.threads)
            committed.append(len(contents(killed, encoder)))
            print(f"killed after {delay:5.1f} s, {committed[-1]} documents whole", file=sys.stderr)
        with Collection.open(killed, encoder) as collection:
            last = collection.sync(folder)
        started = time.perf_counter()
        with Collection.open(whole, encoder) as collection:
            collection.sync(folder)
        seconds = time.perf_counter() - started
        differences = compare(contents(whole, encoder), contents(killed, encoder))
    return {
        "machine": f"{platform.machine()}, {given.threads} threads",
        "versions": f"torch {torch.__version__}, lancedb {lancedb.__version__}",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "kills": deaths,
        "documents_whole_after_each_death": committed,
        "documents_added_by_the_last_run": len(last.added),
        "seconds_of_an_uninterrupted_run": round(seconds, 1),
        **differences,
    }


if __name__ == "__main__":
    main()
