"""Residual attention: memory and time of carrying scores whole, as factors, or compressed.

A stack of layers on random heads, each row in a process of its own; memory is the peak of the
resident set above what it was when the libraries were loaded. Carrying scores whole is measured as
far as this machine goes; beyond, its least is stated: the carried scores and one softmax of them.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import torch

import machine
from unabridged.attention.residual import Residual
from unabridged.attention.residual_scores import Factors

HEADS, WIDTH = 12, 64
SETTINGS = {
    "materialised": Residual("materialised"),
    "tiled": Residual(),
    "compressed": Residual("compressed", rank=2 * WIDTH),
}


def heads(length, dtype, layer):
    """Query, key, value of one layer; logits of standard deviation about a third of a layer's."""
    generator = torch.Generator().manual_seed(layer)
    parts = torch.randn(3, 1, HEADS, length, WIDTH, generator=generator)
    return (part.to(dtype) for part in parts.mul_(0.6))


def resident():
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * resource.getpagesize()


def child(job):
    """One row: the whole stack, or its last layer after all factors are there."""
    residual, dtype = SETTINGS[job["mode"]], getattr(torch, job["dtype"])
    heads(8, dtype, 0)
    before, earlier, seconds = resident(), None, []
    layers = range(job["layers"])
    if job["last_only"]:
        for layer in layers[:-1]:
            query, key, _ = heads(job["length"], dtype, layer)
            earlier = Factors.of(query, key) if earlier is None else earlier.then(query, key, 1.0)
        layers = layers[-1:]
    with torch.no_grad():
        for layer in layers:
            query, key, value = heads(job["length"], dtype, layer)
            wall, cpu = time.perf_counter(), time.process_time()
            _, earlier = residual.read(query, key, value, earlier=earlier)
            seconds.append((time.perf_counter() - wall, time.process_time() - cpu))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"peak": peak - before, "seconds": seconds}))


def measure(job):
    command = [sys.executable, __file__, "--child", json.dumps(job)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def row(job, found):
    scores = HEADS * job["length"] ** 2 * getattr(torch, job["dtype"]).itemsize
    cpu = [each[1] for each in found["seconds"]]
    return {
        "length": job["length"],
        "dtype": job["dtype"],
        "mode": job["mode"],
        "layers": "the last of 12" if job["last_only"] else job["layers"],
        "peak GB": f"{found['peak'] / 1e9:.2f}",
        "two score matrices, GB": f"{2 * scores / 1e9:.2f}",
        "share": f"{found['peak'] / (2 * scores):.3f}",
        "wall s": f"{sum(each[0] for each in found['seconds']):.1f}",
        "CPU s": f"{sum(cpu):.1f}",
        "CPU s of layers 1, 6, 12": " ".join(f"{cpu[i]:.2f}" for i in (0, 5, 11))
        if len(cpu) > 11
        else "",
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--lengths", type=int, nargs="+", default=[4096])
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--modes", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=1, help="the quickest run counts")
    parser.add_argument("--last-only", action="store_true", help="compute the last layer alone")
    parser.add_argument("--name", default="residual", help="of the JSON in results/")
    given = parser.parse_args()
    if given.child:
        child(json.loads(given.child))
        return
    rows = []
    for length in given.lengths:
        for dtype in given.dtypes:
            for mode in given.modes:
                job = {"length": length, "dtype": dtype, "mode": mode, "layers": given.layers}
                job["last_only"] = given.last_only
                if mode == "compressed" and dtype != "float32":
                    continue  # there is no QR in half precision
                runs = [measure(job) for _ in range(given.repeats)]
                rows.append(row(job, min(runs, key=lambda r: sum(s[1] for s in r["seconds"]))))
    machine.report(given.name, rows, {"heads": f"{HEADS} of width {WIDTH}"})


if __name__ == "__main__":
    main()
