"""Truncated SVD of 20,000 x 768 at rank 50 beside scikit-learn and torch, in alternation.

The matrix is real: neighbouring MiniLM passages of QMSum side by side. `error` is the Frobenius
norm of the residual over the best possible. Without data a spectrum of 1/sqrt(j) stands in.
"""

from __future__ import annotations

import argparse
from importlib.metadata import version

import numpy as np
import torch
from sklearn.utils.extmath import randomized_svd as sklearn_svd

import machine
from projection import alternate
from real_vectors import real_vectors
from unabridged.geometry.nystrom import RowSketch
from unabridged.geometry.randomized_svd import error_bound, randomized_svd

RANK = 50


def matrix(data):
    passages, _ = real_vectors(data)
    pairs = [np.concatenate([passages[:-s], passages[s:]], axis=1) for s in (1, 2)]
    return np.ascontiguousarray(np.concatenate(pairs)[:20_000])


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", help="folder that holds qmsum/")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    M = matrix(given.data)
    tensor = torch.from_numpy(M)
    calls = {
        "unabridged": lambda: triple(randomized_svd(M, RANK)),
        "unabridged power, 10 extra": lambda: triple(randomized_svd(M, RANK, method="power")),
        "unabridged power, 20 extra": lambda: triple(
            randomized_svd(M, RANK, oversampling=20, method="power")
        ),
        "unabridged single pass over rows": lambda: triple(streamed(M)),
    }
    for rounds in (2, 4, "auto"):
        calls[f"scikit-learn (n_iter {rounds})"] = lambda n=rounds: sklearn_svd(
            M, RANK, n_iter=n, random_state=0
        )
    for size, rounds in ((50, 4), (60, 2), (60, 3)):
        calls[f"torch.svd_lowrank (q {size}, niter {rounds})"] = lambda q=size, n=rounds: cut(
            torch.svd_lowrank(tensor, q=q, niter=n)
        )
    values = np.linalg.eigvalsh(M.T.astype(np.float64) @ M)[::-1]
    best = np.sqrt(values[RANK:].sum())
    errors = {name: residual(M, call()) / best for name, call in calls.items()}
    times = alternate(calls, given.rounds)
    ours = times["unabridged"]
    rows = [
        {
            "method": name,
            "error": f"{errors[name]:.4f}",
            "ms": f"{1e3 * took:.0f}",
            "times ours": f"{took / ours:.2f}",
        }
        for name, took in times.items()
    ]
    bound = error_bound(M, randomized_svd(M, RANK))
    about = {
        "scikit-learn": version("scikit-learn"),
        "certificate": f"Frobenius estimate {bound.frobenius / best:.3f} of the best, "
        f"spectral norm at most {bound.spectral / np.sqrt(values[RANK]):.1f} of the best",
    }
    machine.report("randomized_svd", rows, about)


def streamed(M):
    sketch = RowSketch(M.shape[1], RANK)
    for start in range(0, len(M), 2_000):
        sketch.update(M[start : start + 2_000])
    return sketch.svd()


def triple(svd):
    return svd.left, svd.values, svd.right


def cut(svd):
    U, S, V = svd
    return U[:, :RANK].numpy(), S[:RANK].numpy(), V[:, :RANK].T.numpy()


def residual(M, svd):
    U, S, Vh = svd
    return float(np.linalg.norm(M - (U * S) @ Vh))


if __name__ == "__main__":
    main()
