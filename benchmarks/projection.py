"""Random projection beside scikit-learn: dense, sparse and Hadamard, in alternation."""

from __future__ import annotations

import argparse
import time
import warnings
from importlib.metadata import version

import numpy as np
import torch
from sklearn.random_projection import GaussianRandomProjection, SparseRandomProjection

import machine
from unabridged.geometry.random_projection import RandomProjection

SHAPES = ((100_000, 384, 96), (20_000, 4_096, 256), (5_000, 8_192, 512))


def alternate(calls, rounds):
    """Median seconds of each call, run in turn."""
    seconds = {name: [] for name in calls}
    for round_ in range(rounds + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if round_:
                seconds[name].append(time.perf_counter() - start)
    return {name: float(np.median(took)) for name, took in seconds.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    warnings.simplefilter("ignore")
    rows = []
    for count, d, n in SHAPES:
        X = np.random.default_rng(0).standard_normal((count, d), dtype=np.float32)
        rivals = {
            "scikit-learn Gaussian": GaussianRandomProjection(n, random_state=0).fit(X),
            "scikit-learn Sparse": SparseRandomProjection(n, random_state=0).fit(X),
            "unabridged gaussian": RandomProjection("gaussian", d, n),
            "unabridged sparse": RandomProjection("sparse", d, n),
            "unabridged hadamard": RandomProjection("hadamard", d, n),
        }
        times = alternate(
            {k: lambda p=p, X=X: p.transform(X) for k, p in rivals.items()}, given.rounds
        )
        dense = times["scikit-learn Gaussian"]
        rows += [
            {
                "rows": count,
                "dimensions": f"{d} to {n}",
                "transform": name,
                "ms": f"{1e3 * took:.1f}",
                "x faster than scikit-learn's dense": f"{dense / took:.2f}",
            }
            for name, took in times.items()
        ]
    machine.report("projection", rows, {"scikit-learn": version("scikit-learn")})


if __name__ == "__main__":
    main()
