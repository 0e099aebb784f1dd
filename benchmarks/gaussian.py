"""Distances between Gaussians: digits against 50-digit arithmetic, all-pairs time, peers beside.

Accuracy judges every pair on the same float64 inputs by mpmath, never by another float library, and
reports the worst pair, not the typical one. Speed runs us and the peers in one process on the same
Gaussians; the peers on a part of the pairs, scaled up, since the whole would take them minutes.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import ot
import torch
from torch.distributions import kl_divergence

from machine import report
from unabridged.geometry.gaussian import Gaussian
from unabridged.geometry.pairwise import SINGLE, pairwise

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))
import reference_gaussian as reference

FLOAT = torch.float64
CONDITIONS = (6.0, 9.0, 12.0)


def torch_kl(p: Gaussian, q: Gaussian) -> torch.Tensor:
    return kl_divergence(p.to_distribution(), q.to_distribution())


def pot_w2(p: Gaussian, q: Gaussian) -> torch.Tensor:
    parts = (p.mean, q.mean, p.covariance, q.covariance)
    return ot.gaussian.bures_wasserstein_distance(*parts) ** 2


def textbook_bhattacharyya(p: Gaussian, q: Gaussian) -> torch.Tensor:
    middle, delta = (p.covariance + q.covariance) / 2, p.mean - q.mean
    logs = [torch.logdet(s) for s in (middle, p.covariance, q.covariance)]
    return logs[0] / 2 - (logs[1] + logs[2]) / 4 + delta @ torch.linalg.solve(middle, delta) / 8


PEERS: dict[str, tuple[str, Callable[[Gaussian, Gaussian], torch.Tensor]]] = {
    "kl": ("torch.distributions", torch_kl),
    "jeffreys": ("torch.distributions", lambda p, q: torch_kl(p, q) + torch_kl(q, p)),
    "bhattacharyya": ("textbook, torch.logdet", textbook_bhattacharyya),
    "wasserstein2": ("POT", pot_w2),
}


def accuracy(count: int, largest_condition: float) -> list[dict[str, str]]:
    """Worst and median relative error of each distance over mixed random pairs."""
    errors: dict[tuple[str, str], list[float]] = {}
    for pair in reference.random_pairs(count, 0, largest_condition=largest_condition):
        truth = reference.distances(*pair)
        p, q = Gaussian(*pair[:2]), Gaussian(*pair[2:])
        for name, (_, peer) in PEERS.items():
            values = {
                "single": SINGLE[name](p, q),
                "table": pairwise(p[None], q[None], name)[0, 0],
                "peer": _or_nan(peer, p, q),
            }
            for who, value in values.items():
                error = reference.relative_error(value.nan_to_num(torch.inf), truth[name])
                errors.setdefault((name, who), []).append(error)
    rows = []
    for name, (peer, _) in PEERS.items():
        row = {"distance": name, "condition to": f"1e{largest_condition:.0f}"}
        for who in ("single", "table", "peer"):
            worst, median = max(errors[name, who]), statistics.median(errors[name, who])
            row[f"{who}: worst"], row[f"{who}: median"] = f"{worst:.1e}", f"{median:.1e}"
        rows.append({**row, "peer": peer})
    return rows


def _or_nan(
    peer: Callable[[Gaussian, Gaussian], torch.Tensor], p: Gaussian, q: Gaussian
) -> torch.Tensor:
    """What the peer says; NaN where it refuses a covariance of condition 1e12 as not positive."""
    try:
        return torch.as_tensor(peer(p, q))
    except (ValueError, torch.linalg.LinAlgError):
        return torch.tensor(torch.nan)


def by_difference(count: int) -> list[dict[str, str]]:
    """Median relative error as p approaches q, condition number 1e3."""
    rows = []
    for exponent in (0, -2, -4, -6, -8):
        row = {"relative difference": f"1e{exponent}"}
        for name, (peer_name, peer) in PEERS.items():
            generator = torch.Generator().manual_seed(0)
            ours, theirs = [], []
            for _ in range(count):
                pair = reference.random_pair(
                    7,
                    condition=1e3,
                    difference=10.0**exponent,
                    family="relative",
                    generator=generator,
                )
                truth = reference.distances(*pair)[name]
                p, q = Gaussian(*pair[:2]), Gaussian(*pair[2:])
                ours.append(reference.relative_error(SINGLE[name](p, q), truth))
                theirs.append(reference.relative_error(_or_nan(peer, p, q), truth))
            row[f"{name}: ours"] = f"{statistics.median(ours):.0e}"
            row[f"{name}: {peer_name}"] = f"{statistics.median(theirs):.0e}"
        rows.append(row)
    return rows


def to_itself(d: int) -> list[dict[str, str]]:
    """W2 (not squared) of a Gaussian to itself."""
    rows = []
    for dtype in (FLOAT, torch.float32):
        p = clouds(2, d, 2 * d).to(dtype)
        ours = wasserstein_root(pairwise(p, p[:]))
        theirs = pot_w2(p[0], p[0]).sqrt()
        rows.append(
            {
                "dtype": str(dtype)[6:],
                "d": str(d),
                "ours": f"{ours:.1e}",
                "POT": f"{float(theirs):.1e}",
            }
        )
    return rows


def wasserstein_root(table: torch.Tensor) -> float:
    return float(table.diagonal().max().sqrt())


def clouds(count: int, d: int, samples: int, seed: int = 0) -> Gaussian:
    """Full Gaussians of `samples` points each, of unequal scale along the axes."""
    generator = torch.Generator().manual_seed(seed)
    scale = torch.logspace(0, -1, d, dtype=FLOAT)
    points = torch.randn(count, samples, d, generator=generator, dtype=FLOAT) * scale
    points = points + torch.randn(count, 1, d, generator=generator, dtype=FLOAT)
    gaussian = Gaussian.from_samples(points)
    return Gaussian(gaussian.mean, gaussian.covariance)


def token_clouds(count: int, d: int, tokens: int, seed: int = 0) -> Gaussian:
    """Documents of fewer tokens than dimensions, shrunk: low rank + isotropic."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(count, tokens, d, generator=generator, dtype=FLOAT)
    return Gaussian.from_samples(points, shrinkage="ledoit_wolf")


def seconds(action: Callable[[], object], repeats: int = 1) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def speed(count: int, d: int) -> list[dict[str, str]]:
    """All pairs of `count` Gaussians; peers on some of the pairs, alternating with us."""
    full, thin = clouds(count, d, 2 * d), token_clouds(count, d, 64)
    pairs = count * count
    sample = 96
    peers = {
        "kl": [("torch.distributions, loop", loop(torch_kl, full, sample))],
        "bhattacharyya": [("textbook, loop", loop(textbook_bhattacharyya, full, sample))],
        "wasserstein2": [
            ("POT, numpy", loop(pot_numpy, full, sample // 16)),
            ("POT, torch, loop", loop(pot_w2, full, sample // 16)),
            ("POT, torch, table", pot_table(full)),
        ],
    }
    rows = []
    for name, several in peers.items():
        pairwise(full[:2], full[:2], name)
        ours = seconds(lambda name=name: pairwise(full, full, name))
        for peer, run in several:
            per_pair = run()
            rows.append(_row("full", name, d, count, ours, peer, per_pair * pairs))
    thin_loop = loop(torch_kl, thin, sample)
    ours = seconds(lambda: pairwise(thin, thin, "kl"))
    peer = "torch.distributions, loop"
    rows.append(_row("64 tokens, shrunk", "kl", d, count, ours, peer, thin_loop() * pairs))
    raw = Gaussian.low_rank(thin.mean, thin.structure.factor)
    ours = seconds(lambda: pairwise(raw, raw, "wasserstein2"))
    run = loop(pot_w2, raw, sample // 16)
    peer = "POT, torch, loop"
    rows.append(_row("64 tokens", "wasserstein2", d, count, ours, peer, run() * pairs))
    return rows


def _row(
    structure: str, name: str, d: int, count: int, ours: float, peer: str, theirs: float
) -> dict[str, str]:
    return {
        "Gaussians": f"{count}, {structure}",
        "d": str(d),
        "distance": name,
        "ours, s": f"{ours:.2f}",
        "peer": peer,
        "peer, s (scaled up)": f"{theirs:.0f}",
        "ratio": f"{theirs / ours:.1f}",
    }


def loop(
    peer: Callable[[Gaussian, Gaussian], torch.Tensor], gaussians: Gaussian, sample: int
) -> Callable[[], float]:
    """Seconds a pair of the peer, one pair at a time."""
    generator = torch.Generator().manual_seed(1)
    chosen = torch.randint(len(gaussians), (sample, 2), generator=generator).tolist()
    pairs = [(gaussians[i], gaussians[j]) for i, j in chosen]
    # The peer's own objects are made outside of the clock where it would keep them.
    if peer is torch_kl:
        made = [(p.to_distribution(), q.to_distribution()) for p, q in pairs]
        return lambda: seconds(lambda: [kl_divergence(p, q) for p, q in made]) / sample
    return lambda: seconds(lambda: [peer(p, q) for p, q in pairs]) / sample


def pot_numpy(p: Gaussian, q: Gaussian) -> torch.Tensor:
    parts = (part.numpy() for part in (p.mean, q.mean, p.covariance, q.covariance))
    return ot.gaussian.bures_wasserstein_distance(*parts)


def pot_table(gaussians: Gaussian) -> Callable[[], float]:
    """Seconds a pair of POT's own all-pairs mode, on a 2 x 16 corner."""
    p, q = gaussians[:2], gaussians[:16]
    parts = (p.mean, q.mean, p.covariance, q.covariance)
    return lambda: seconds(lambda: ot.gaussian.bures_wasserstein_distance(*parts)) / 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=1000, help="random pairs for accuracy")
    parser.add_argument("--count", type=int, default=300, help="Gaussians for speed")
    parser.add_argument("--dimensions", type=int, nargs="*", default=[64, 384])
    parser.add_argument("--skip", choices=["accuracy", "speed"], help="run only the other part")
    arguments = parser.parse_args()
    about = {
        "peers": f"POT {version('POT')}, torch {torch.__version__}, mpmath {version('mpmath')}"
    }
    if arguments.skip != "accuracy":
        rows = [
            row
            for condition in CONDITIONS
            for row in accuracy(
                arguments.pairs if condition == CONDITIONS[0] else arguments.pairs // 5, condition
            )
        ]
        report("gaussian_accuracy", rows, {**about, "pairs": arguments.pairs})
        report("gaussian_by_difference", by_difference(11), about)
        report("gaussian_to_itself", to_itself(384), about)
    if arguments.skip != "speed":
        rows = [row for d in arguments.dimensions for row in speed(arguments.count, d)]
        report("gaussian_speed", rows, about)


if __name__ == "__main__":
    main()
