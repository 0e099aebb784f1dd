"""Two experiments on how many dimensions are enough.

coverage: at the dimension that `dimension_for` gives for a failure probability of 0.1, how many of
200 Gaussian projections distort some distance by eps or more; the band is the binomial 99 %.

heads: the law that a head of 8.33 ln L dimensions is enough for attention over L positions. For
each L a target distribution of every row is drawn, queries and keys of d dimensions are fitted to
it by Adam, and the least d with a mean Kullback-Leibler divergence of at most 0.1 is sought by
bisection. Targets: "copy" puts 0.9 of a row on one position, a random permutation, the rest spread
evenly; "gaussian" is the softmax of 4 times Gaussian logits. The slope is that of least d on ln L.
"""

from __future__ import annotations

import argparse
import math

import numpy as np
import scipy.stats
import torch

import machine
from unabridged.geometry.dimensions import classic_dimension, dimension_for
from unabridged.geometry.random_projection import RandomProjection


def coverage(points, eps, trials, failure=0.1):
    n = dimension_for(points, eps, failure=failure)
    X = np.random.default_rng(0).standard_normal((points, 2 * points)) ** 3
    i, j = np.triu_indices(points, 1)
    lengths = ((X[i] - X[j]) ** 2).sum(axis=1)
    failed = 0
    for seed in range(trials):
        Y = RandomProjection("gaussian", X.shape[1], n, seed).transform(X)
        failed += bool((np.abs(((Y[i] - Y[j]) ** 2).sum(axis=1) / lengths - 1) >= eps).any())
    return {
        "points": points,
        "eps": eps,
        "dimension": n,
        "24 ln N/eps^2": classic_dimension(points, eps),
        "failed": f"{failed} of {trials}",
        "99 % band up to": int(scipy.stats.binom(trials, failure).ppf(0.995)),
    }


def targets(kind, length, generator):
    if kind == "copy":
        target = torch.full((length, length), 0.1 / (length - 1))
        target[torch.arange(length), torch.randperm(length, generator=generator)] = 0.9
        return target
    return torch.softmax(4 * torch.randn(length, length, generator=generator), dim=1)


def fitted_divergence(target, dimension, steps, generator):
    """Mean KL(target, softmax(Q K^T)) over rows after `steps` of Adam."""
    length = len(target)
    scale = dimension**-0.25
    Q = (torch.randn(length, dimension, generator=generator) * scale).requires_grad_()
    K = (torch.randn(length, dimension, generator=generator) * scale).requires_grad_()
    optimiser = torch.optim.Adam([Q, K], lr=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    entropy = (target * target.log()).sum(dim=1).mean()
    for _ in range(steps):
        optimiser.zero_grad()
        loss = entropy - (target * torch.log_softmax(Q @ K.T, dim=1)).sum(dim=1).mean()
        loss.backward()
        optimiser.step()
        schedule.step()
    return loss.item()


def least_dimension(kind, length, steps, seed):
    generator = torch.Generator().manual_seed(seed)
    target = targets(kind, length, generator)
    low, high = 0, 2
    while fitted_divergence(target, high, steps, generator) > 0.1:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if fitted_divergence(target, middle, steps, generator) > 0.1:
            low = middle
        else:
            high = middle
    return high


def heads(lengths, steps):
    rows = []
    for kind in ("copy", "gaussian"):
        found = [least_dimension(kind, length, steps, seed=0) for length in lengths]
        slope = np.polyfit(np.log(lengths), found, 1)[0] if len(lengths) > 1 else math.nan
        rows += [
            {
                "target": kind,
                "L": length,
                "least d": d,
                "8.33 ln L": f"{8.33 * math.log(length):.0f}",
                "slope of d on ln L": f"{slope:.2f}",
            }
            for length, d in zip(lengths, found, strict=True)
        ]
    return rows


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--lengths", type=int, nargs="+", default=[64, 128, 256, 512])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    rows = [coverage(n, eps, given.trials) for n, eps in ((20, 0.5), (50, 0.3), (100, 0.5))]
    machine.report("dimensions_coverage", rows)
    print()
    machine.report("dimensions_heads", heads(given.lengths, given.steps))


if __name__ == "__main__":
    main()
