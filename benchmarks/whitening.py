"""Whitening against scikit-learn's PCA: time to fit and to transform, memory, agreement.

One process, alternating runs, medians. Ours reads float32 in blocks and accumulates in float64;
PCA(whiten=True) works in memory, in the dtype of the data.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import sklearn
import torch
from sklearn.decomposition import PCA, IncrementalPCA

import unabridged
from unabridged.geometry.moments import Moments
from unabridged.geometry.whitening import Whitening


def data(rows: int, columns: int) -> np.ndarray:
    """Rows with a spread spectrum and a mean, float32."""
    rng = np.random.default_rng(0)
    scale = np.geomspace(1, 0.05, columns).astype(np.float32)
    return rng.standard_normal((rows, columns), dtype=np.float32) * scale + np.float32(0.05)


def alternate(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each call; the calls take turns, after one warm-up each."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(repeats + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if turn:
                times[name].append(time.perf_counter() - start)
    return {name: float(np.median(seconds)) for name, seconds in times.items()}


def streamed(X: np.ndarray) -> Whitening:
    """Whitening from batches of 8,192 rows that are merged: nothing grows with the rows."""
    moments = Moments.empty(X.shape[1])
    for start in range(0, len(X), 8192):
        moments = moments.update(X[start : start + 8192])
    return Whitening.from_moments(moments)


def largest_allocation(X: np.ndarray) -> int:
    """Bytes of the largest block that fitting asks torch for."""
    with torch.profiler.profile(profile_memory=True) as profile:
        Whitening.fit(X)
    return max(event.cpu_memory_usage for event in profile.events())


def subspace_gap(X: np.ndarray, kept: int) -> float:
    """Sine of the largest angle between our leading subspace and a float64 PCA's."""
    pca = PCA(kept, svd_solver="covariance_eigh").fit(X.astype(np.float64))
    ours = Whitening.fit(X).kernel[:, :kept]
    ours = ours / np.linalg.norm(ours, axis=0)
    outside = ours - pca.components_.T @ (pca.components_ @ ours)
    return float(np.linalg.norm(outside, 2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--columns", type=int, default=384)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("results/whitening.json"))
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    X = data(arguments.rows, arguments.columns)
    wide = X.astype(np.float64)  # what PCA needs to compute with our digits; not counted
    seconds = alternate(
        {
            "ours, one call": lambda: Whitening.fit(X),
            "ours, merged batches": lambda: streamed(X),
            "PCA(whiten=True)": lambda: PCA(whiten=True).fit(X),
            "PCA of float64 rows": lambda: PCA(whiten=True).fit(wide),
        },
        arguments.repeats,
    )
    seconds |= alternate({"IncrementalPCA": lambda: IncrementalPCA(whiten=True).fit(X)}, 1)
    whitening, pca = Whitening.fit(X), PCA(whiten=True).fit(X)
    kernel = whitening.kernel.astype(np.float32)
    applied = alternate(
        {
            "ours": lambda: whitening.transform(X),
            "PCA": lambda: pca.transform(X),
            "one torch product": lambda: torch.from_numpy(X) @ torch.from_numpy(kernel),
        },
        arguments.repeats,
    )
    report = {
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "versions": {
            "unabridged": unabridged.__version__,
            "scikit-learn": sklearn.__version__,
            "numpy": np.__version__,
            "torch": torch.__version__,
        },
        "date": datetime.date.today().isoformat(),
        "rows": arguments.rows,
        "columns": arguments.columns,
        "fit_seconds": seconds,
        "transform_seconds": applied,
        "subspace_gap": subspace_gap(X, arguments.columns // 4),
        "largest_allocation": {
            len(part): largest_allocation(part) for part in (X[: len(X) // 4], X)
        },
    }
    show(report)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(report, indent=2))


def show(report: dict) -> None:
    """The table."""
    ours = report["fit_seconds"]["ours, one call"]
    print(
        f"{report['rows']:,} x {report['columns']} float32; {report['machine']}; {report['date']}"
    )
    print("  ".join(f"{name} {version}" for name, version in report["versions"].items()))
    for name, seconds in report["fit_seconds"].items():
        print(f"fit        {name:24s} {seconds:8.3f} s   {seconds / ours:6.2f} x ours")
    base = report["transform_seconds"]["ours"]
    for name, seconds in report["transform_seconds"].items():
        print(f"transform  {name:24s} {seconds:8.3f} s   {seconds / base:6.2f} x ours")
    print(f"sine of the angle to the subspace of a float64 PCA: {report['subspace_gap']:.1e}")
    for rows, size in report["largest_allocation"].items():
        print(f"largest allocation while fitting {rows:,} rows: {size / 2**20:.1f} MiB")
    if report["fit_seconds"]["PCA(whiten=True)"] < ours:
        print("not won: the in-memory PCA, which computes in float32, fits faster in this run")


if __name__ == "__main__":
    main()
