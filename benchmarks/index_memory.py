"""Peak memory of indexing one very long text file, above the loaded model.

The text is made up of common English words in random order, so no data is needed. The peak is the
process's largest resident size, the base its size after the model has read a short text. With
--layers 1 only the first layer of the model runs: buffers are as large as with all, and the time
is a sixth.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import resource
import tempfile
import time
from pathlib import Path

import lancedb
import numpy as np
import psutil
import torch

from unabridged.collection import Collection
from unabridged.encoder import LongEncoder

TEXT = (
    "the of and to in is was that it for on with as be at by had are not but from have they which "
    "one were all their there been has when who will more no out so said what up its about into "
    "than them can only other time new some could these two may first then do any like my now over "
    "meeting committee budget schedule question answer remote control design interface committee"
)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=float, default=50)
    parser.add_argument("--layers", type=int, default=0, help="run only so many; 0 runs all")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("results/index_memory.json"))
    return parser.parse_args()


def write_text(path: Path, size: int) -> None:
    """Lines of about a hundred characters, written in pieces that cost no memory."""
    rng = np.random.default_rng(0)
    with path.open("w", encoding="utf-8") as file:
        while file.tell() < size:
            words = rng.choice(TEXT.split(), 18_000).tolist()
            lines = (" ".join(words[i : i + 18]) + "." for i in range(0, len(words), 18))
            file.write("\n".join(lines) + "\n")


def megabytes(size: float) -> int:
    return round(size / 1e6)


def peak() -> int:
    """Bytes; Linux counts in kilobytes, macOS in bytes."""
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


class Peaks:
    """The process's peak at the end of every phase; called with a snapshot at each step."""

    def __init__(self):
        self.of, self.phase = {}, "looking"

    def __call__(self, now):
        """Note the end of the phase before."""
        self.finish()
        self.phase = now.phase

    def finish(self):
        """Note the peak so far as the present phase's."""
        self.of[self.phase] = peak()
        return peak()


def measure(given: argparse.Namespace, scratch: Path) -> dict:
    path = scratch / "long.txt"
    write_text(path, round(given.megabytes * 1e6))
    encoder = LongEncoder()
    if given.layers:
        forward = encoder._pipeline.forward
        forward._blocks = forward._blocks[: given.layers]
    encoder.read("A short text. " * 4000)
    base = psutil.Process().memory_info().rss
    peaks = Peaks()
    started = time.perf_counter()
    with Collection.open(scratch / "collection", encoder) as collection:
        report = collection.sync(path, progress=peaks)
        seconds = time.perf_counter() - started
        after_sync = peaks.finish()
        collection.search("the budget of the meeting")
        info = collection.info()
    return {
        "machine": f"{platform.machine()}, {given.threads} threads",
        "versions": f"torch {torch.__version__}, lancedb {lancedb.__version__}",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "text_megabytes": megabytes(path.stat().st_size),
        "tokens": report.tokens,
        "passages": info.passages,
        "coverage": report.coverage.share,
        "layers_run": given.layers or "all",
        "seconds": round(seconds),
        "base_megabytes": megabytes(base),
        "peak_megabytes_above_base_by_phase": {
            phase: megabytes(size - base) for phase, size in peaks.of.items()
        },
        "peak_megabytes_above_base_after_sync": megabytes(after_sync - base),
        "peak_megabytes_above_base_after_a_search": megabytes(peak() - base),
    }


def main() -> None:
    given = arguments()
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as scratch:
        result = measure(given, Path(scratch))
    for name, value in result.items():
        print(f"{name:42} {value}")
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
