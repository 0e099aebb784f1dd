"""Random-feature attention against performer-pytorch at equal features: time, memory, and error.

Time: runs of both alternate in one process, medians, on process time, so that a busy machine
disturbs both alike. Memory: what the peak of a fresh process grows by in one call. Error: against
exact attention on normal queries and keys with logits small enough for features to work, with the
slope of its logarithm. Radii: the bias of directions whose norms are not drawn.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import time

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention

import machine
from unabridged.attention.exact import Exact
from unabridged.attention.favor import Favor

HEADS, WIDTH = 12, 32
OURS = {
    "Favor, favor+, nothing looked at": {"kind": "favor+", "invariances": "none"},
    "Favor, favor+, keys centred": {"kind": "favor+", "invariances": "keys"},
    "Favor, favor#, monge": {},
}


def methods(features):
    # Imported here, so that --help works without it.
    from performer_pytorch import FastAttention

    peer = FastAttention(dim_heads=WIDTH, nb_features=features)
    ours = {name: Favor(features, **settings) for name, settings in OURS.items()}
    return {
        "performer-pytorch": peer,
        **ours,
        "exact (torch, fused)": scaled_dot_product_attention,
        "exact (torch, fused) in bfloat16": in_bfloat16,
    }


def in_bfloat16(*heads):
    return scaled_dot_product_attention(*(x.bfloat16() for x in heads)).float()


def inputs(length, *, gradient, texts=1):
    generator = torch.Generator().manual_seed(0)
    shape = texts, HEADS, length, WIDTH
    drawn = (torch.randn(shape, generator=generator) for _ in range(3))
    return [x.requires_grad_(gradient) for x in drawn]


def once(method, heads, *, backward):
    start = time.process_time()
    if backward:
        method(*heads).sum().backward()
    else:
        with torch.no_grad():
            method(*heads)
    return time.process_time() - start


def seconds(length, features, runs, *, backward, texts=1):
    """Median process time of every method, runs alternating."""
    named, heads = methods(features), inputs(length, gradient=backward, texts=texts)
    times = {name: [] for name in named}
    for number in range(runs + 1):
        for name, method in named.items():
            spent = once(method, heads, backward=backward)
            if number:
                times[name].append(spent)
    return {name: statistics.median(spent) for name, spent in times.items()}


def time_rows(lengths, features, runs):
    for length in lengths:
        for texts, backward in ((1, False), (1, True), (16, True)):
            if texts * length > max(lengths):
                continue
            taken = seconds(length, features, runs, backward=backward, texts=texts)
            peer = taken["performer-pytorch"]
            for name, spent in taken.items():
                yield {
                    "texts x tokens": f"{texts} x {length:,}",
                    "what": "forward and backward" if backward else "forward",
                    "method": name,
                    "ms": f"{1e3 * spent:.0f}",
                    "performer-pytorch takes": f"{peer / spent:.2f} x",
                }


def measure_memory(name, length, features, *, backward):
    """Growth of this process's peak in one call, in MB; printed for the parent to read."""
    method, heads = methods(features)[name], inputs(length, gradient=backward)
    once(method, [x[:, :, :64].detach().requires_grad_(backward) for x in heads], backward=backward)
    memory = machine.PeakMemory()
    once(method, heads, backward=backward)
    print(f"MB {memory.growth():.1f}")


def memory_rows(lengths, features):
    for length in lengths:
        for name in methods(features):
            row = {"tokens": f"{length:,}", "method": name}
            for backward in (False, True):
                what = "forward and backward" if backward else "forward"
                options = [f"--memory-of={name}", f"--lengths={length}", f"--features={features}"]
                command = [sys.executable, __file__, *options, *["--backward"] * backward]
                out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
                row[f"{what}, MB"] = re.search(r"^MB (.+)$", out, re.MULTILINE)[1]
            yield row


def error_rows(counts, draws=4):
    """Mean squared error over draws, and its slope, where the mean |q+k|² is 1."""
    generator = torch.Generator().manual_seed(1)
    size = (1 / (2 * WIDTH)) ** 0.5 * WIDTH**0.25
    query, key, value = (torch.randn(1, 4, 512, WIDTH, generator=generator) for _ in range(3))
    query, key = size * query, size * key
    wanted = Exact()(query, key, value)
    named = {name: settings for name, settings in OURS.items() if "keys" not in name}
    named["Favor, favor+, independent"] = {**OURS["Favor, favor+, nothing looked at"]}
    named["Favor, favor+, independent"]["directions"] = "independent"
    named["Favor, trigonometric"] = {"kind": "trigonometric"}
    for name, settings in named.items():
        errors = []
        for count in counts:
            runs = [Favor(count, seed=s, **settings)(query, key, value) for s in range(draws)]
            squares = torch.stack([(x - wanted).square().sum() for x in runs]).mean()
            errors.append(float(squares.sqrt() / wanted.norm()))
        logs = torch.tensor(counts).log()
        slope = torch.linalg.lstsq(
            torch.stack([logs, torch.ones(len(counts))], 1), torch.tensor(errors).log()[:, None]
        ).solution[0]
        columns = {f"m = {m:,}": f"{e:.4f}" for m, e in zip(counts, errors, strict=True)}
        yield {"method": name, **columns, "slope": f"{float(slope):.3f}"}


def radius_rows(counts, squares):
    """What fixed radii do to the mean: uniform directions, so that 0F1 is each one's mean."""
    from scipy.special import hyp0f1
    from scipy.stats import chi

    for count in counts:
        ranks = np.arange(1, count + 1)
        radii = {
            "quantiles i/(m+1) of chi": chi(WIDTH).ppf(ranks / (count + 1)),
            "all equal sqrt(D)": np.full(count, WIDTH**0.5),
        }
        for name, norms in radii.items():
            row = {"radii": name, "features": count}
            for square in squares:
                mean = hyp0f1(WIDTH / 2, norms**2 * square / 4).mean()
                row[f"|q+k|² = {square}"] = f"{100 * (mean / np.exp(square / 2) - 1):+.1f} %"
            yield row


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lengths", type=int, nargs="+", default=[1024, 4096, 16384])
    parser.add_argument("--features", type=int, default=256)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", choices=["time", "memory", "error", "radii"], help="one table")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    parser.add_argument("--backward", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    lengths, features = arguments.lengths, arguments.features
    if arguments.memory_of:
        measure_memory(arguments.memory_of, lengths[0], features, backward=arguments.backward)
        return
    about = {"heads": f"{HEADS} of {WIDTH}", "features": features}
    tables = {
        "time": lambda: time_rows(lengths, features, arguments.runs),
        "memory": lambda: memory_rows(lengths[-2:], features),
        "error": lambda: error_rows([64, 256, 1024, 4096]),
        "radii": lambda: radius_rows([64, 256, 1024], [2, 10, 20]),
    }
    for name, rows in tables.items():
        if arguments.only in (None, name):
            machine.report(f"favor_{name}", list(rows()), about)
            print()


if __name__ == "__main__":
    main()
