"""Linear datamodeling score: does an attribution predict what retraining without examples does?

A 64-32-10 network on scikit-learn's digits, 600 training images (10 % of the labels flipped), SGD.
For each of many random subsets the network is trained again without it; the score of a method is
the Spearman correlation, over subsets, between the true test loss and the method's sum over the
examples that stayed, averaged over test images. Two settings: the same seed and order of batches as
the run that was explained, and the average of retrainings over ten seeds (the adjoint and the path
kernel are then averaged over --explained recorded runs).
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from scipy.stats import rankdata
from sklearn.datasets import load_digits
from torch import nn
from torch.func import functional_call, grad, vmap

from unabridged.attribution import (
    Recorder,
    Replay,
    TensorData,
    adjoint,
    cross_entropy_of,
    path_kernel,
)

TRAIN, TEST, BATCH, STEPS, RATE = 600, 150, 60, 200, 0.3


def problem():
    data = load_digits()
    inputs = torch.tensor(data.data / 16, dtype=torch.float64)
    labels = torch.tensor(data.target)
    generator = torch.Generator().manual_seed(7)
    flipped = torch.randperm(TRAIN, generator=generator)[: TRAIN // 10]
    shift = torch.randint(1, 10, (len(flipped),), generator=generator)
    noisy = labels.clone()
    noisy[flipped] = (labels[flipped] + shift) % 10
    tests = slice(TRAIN, TRAIN + TEST)
    return inputs[:TRAIN], noisy[:TRAIN], inputs[tests], labels[tests]


def network(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10)).double()


def order(seed):
    """The batches of a run: epochs of random permutations."""
    generator = torch.Generator().manual_seed(1000 + seed)
    ids = [torch.randperm(TRAIN, generator=generator) for _ in range(STEPS * BATCH // TRAIN)]
    return torch.cat(ids).split(BATCH)


def record(seed, folder, inputs, labels):
    model = network(seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    data = TensorData(inputs, labels)
    with Recorder(model, optimizer, folder, data=data, every=50) as recorder:
        for ids in order(seed):
            rows, wanted = recorder.fetch(ids)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(rows), wanted).backward()
            optimizer.step()
            recorder.step(ids, rows, wanted)
    return Replay(model, folder, loss=cross_entropy_of, data=data)


def retrained_losses(seed, masks, inputs, labels, tests, goals):
    """(subsets, tests) losses after training with every row of `masks` as weights, side by side."""
    model = network(seed)
    count = len(masks)
    parameters = {
        name: p.detach().expand(count, *p.shape).clone() for name, p in model.named_parameters()
    }

    def loss(parameters, weights, rows, wanted):
        return (
            cross_entropy_of(functional_call(model, parameters, rows), wanted) * weights
        ).sum() / BATCH

    slope = vmap(grad(loss), in_dims=(0, 0, None, None))
    for ids in order(seed):
        step = slope(parameters, masks[:, ids], inputs[ids], labels[ids])
        for name in parameters:
            parameters[name] -= RATE * step[name]
    outputs = vmap(lambda p: functional_call(model, p, tests))(parameters)
    return torch.stack([cross_entropy_of(rows, goals) for rows in outputs])


def score(scores, masks, losses):
    """Mean Spearman over tests, and a 95 % bootstrap interval over tests and subsets."""
    predicted = (masks @ scores.T).numpy()
    true = losses.numpy()
    rho = spearman(predicted, true).mean()
    generator = np.random.default_rng(0)
    draws = []
    for _ in range(200):
        subsets = generator.integers(len(true), size=len(true))
        tests = generator.integers(true.shape[1], size=true.shape[1])
        pick = np.ix_(subsets, tests)
        draws.append(np.nanmean(spearman(predicted[pick], true[pick])))
    return float(rho), [float(q) for q in np.quantile(draws, [0.025, 0.975])]


def spearman(a, b):
    a, b = (rankdata(x, axis=0) for x in (a, b))
    a, b = a - a.mean(0), b - b.mean(0)
    return (a * b).sum(0) / np.sqrt((a**2).sum(0) * (b**2).sum(0))


def explain(replay, inputs, labels, tests, goals):
    """Scores (tests, train) of every method for one recorded run, and the seconds each took."""
    found, seconds = {}, {}

    def timed(name, work):
        began = time.perf_counter()
        found[name] = work()
        seconds[name] = time.perf_counter() - began

    timed("adjoint", lambda: adjoint(replay, tests, goals, target=cross_entropy_of).values)
    timed(
        "path kernel",
        lambda: path_kernel(replay, tests, goals, target=cross_entropy_of).contributions,
    )
    end = replay.parameters(-1)

    def dot(theta):
        train = replay.slopes(theta, inputs, labels, cross_entropy_of)
        return -replay.slopes(theta, tests, goals, cross_entropy_of).pairs(train, theta)

    segments = range(len(replay.recording.manifest.segments))
    timed("TracIn (all checkpoints)", lambda: sum(dot(replay.parameters(s)) for s in segments))
    timed("gradient dot product", lambda: dot(end))
    timed("TRAK (one model, exact kernel)", lambda: trak(replay, end, inputs, labels, tests, goals))

    def cosine():
        replay.set(end)
        hidden = [replay.model[1](replay.model[0](rows)).detach() for rows in (tests, inputs)]
        a, b = (nn.functional.normalize(h - hidden[1].mean(0)) for h in hidden)
        return -(a @ b.T) * (2 * (goals[:, None] == labels).double() - 1)

    timed("embedding cosine x label", cosine)
    return found, seconds


def trak(replay, theta, inputs, labels, tests, goals):
    """TRAK's estimator (Park et al. 2023, equation 17) without projection: P is small here."""
    from unabridged.attribution import margin

    train = replay.slopes(theta, inputs, labels, margin).rows(theta)
    test = replay.slopes(theta, tests, goals, margin).rows(theta)
    kernel = train.T @ train
    kernel += 1e-3 * kernel.diagonal().mean() * torch.eye(len(kernel), dtype=kernel.dtype)
    solved = torch.linalg.solve(kernel, train.T)
    losses = replay.values(theta, inputs, labels, cross_entropy_of)
    scores = (test @ solved) * (1 - torch.exp(-losses))
    return -scores


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subsets", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=10, help="seeds of the averaged setting")
    parser.add_argument("--explained", type=int, default=10, help="runs explained and averaged")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    inputs, labels, tests, goals = problem()
    folder = Path(tempfile.mkdtemp())
    replays = [
        record(seed, folder / str(seed), inputs, labels)
        for seed in range(max(1, arguments.explained))
    ]
    every = [explain(replay, inputs, labels, tests, goals) for replay in replays]
    began = time.perf_counter()
    retrained_losses(0, torch.ones(1, TRAIN, dtype=torch.float64), inputs, labels, tests, goals)
    one = time.perf_counter() - began
    print(f"{datetime.date.today()}  {platform.machine()}  torch {torch.__version__}  {arguments}")
    results = {}
    for share in (0.05, 0.2, 0.5):
        generator = torch.Generator().manual_seed(int(100 * share))
        draws = torch.rand(arguments.subsets, TRAIN, generator=generator).argsort(1)
        masks = (draws >= int(share * TRAIN)).double()
        losses = [
            retrained_losses(seed, masks, inputs, labels, tests, goals)
            for seed in range(2 * arguments.seeds)
        ]
        fixed = losses[0]
        first = torch.stack(losses[: arguments.seeds]).mean(0)
        second = torch.stack(losses[arguments.seeds :]).mean(0)
        ceiling = float(spearman(first.numpy(), second.numpy()).mean())
        print(f"\n{share:.0%} left out, {arguments.subsets} subsets, {TEST} tests")
        print(f"{'':32s} same seed              {arguments.seeds}-seed average      retrainings")
        table = {}
        for name in every[0][0]:
            mean = torch.stack([found[name] for found, _ in every]).mean(0)
            own, wide = score(every[0][0][name], masks, fixed)
            averaged, wide2 = score(mean, masks, first)
            cost = every[0][1][name] / one
            table[name] = {"same": own, "interval": wide, "averaged": averaged, "cost": cost}
            print(
                f"{name:32s} {own:.3f} [{wide[0]:.3f}, {wide[1]:.3f}]   "
                f"{averaged:.3f} [{wide2[0]:.3f}, {wide2[1]:.3f}]   {cost:6.1f}"
            )
        print(f"{'ceiling: other seeds, averaged':32s} {'':22s} {ceiling:.3f}")
        results[str(share)] = {"methods": table, "ceiling": ceiling}
    print(
        "\nA cost is in retrainings of one model; the averaged column pays it once a run explained."
    )
    out = Path("results")
    out.mkdir(exist_ok=True)
    (out / "attribution_lds.json").write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
