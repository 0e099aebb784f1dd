"""Contributions from projected gradients against the exact ones, and whether they keep their word.

Two models: the 64-32-10 network on scikit-learn's digits, and one layer of a transformer encoder
with a head over token states drawn at random. For every width, over several draws:
the share of contributions inside their stated 95 % intervals, the error of the estimates relative
to the exact contributions (root mean squares), how far the projected sum is from the exact one, and
the processor time of both ledgers.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch import nn

import attribution
import machine
from unabridged.attribution import (
    Projection,
    Recorder,
    Replay,
    cross_entropy_of,
    margin,
    path_kernel,
    projected_path_kernel,
)

WIDTH, TOKENS, CLASSES = 64, 24, 3


class Layer(nn.Module):
    """One block of an encoder over token states, its mean, and a head."""

    def __init__(self):
        super().__init__()
        self.query, self.key, self.value, self.mix = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(2))
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, states):
        """(N, C) outputs."""
        scores = self.query(states) @ self.key(states).mT / WIDTH**0.5
        mixed = self.mix(scores.softmax(-1) @ self.value(states))
        states = self.norms[0](states + mixed)
        states = self.norms[1](states + self.down(nn.functional.gelu(self.up(states))))
        return self.head(states.mean(1))


def states_and_labels(count, seed):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (count,), generator=generator)
    centres = torch.randn(CLASSES, TOKENS, WIDTH, generator=torch.Generator().manual_seed(99))
    noise = torch.randn(count, TOKENS, WIDTH, generator=generator)
    return 0.3 * centres[labels] + noise, labels


def transformer(folder, steps, seed):
    """A recorded run, and tests."""
    torch.manual_seed(seed)
    model, (inputs, labels) = Layer(), states_and_labels(160, seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    with Recorder(model, optimizer, folder, every=10) as recorder:
        for _ in range(steps):
            ids = torch.randint(len(labels), (16,))
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs[ids]), labels[ids]).backward()
            optimizer.step()
            recorder.step(ids, inputs[ids], labels[ids])
    tests = states_and_labels(30, seed + 1)
    return Replay(model, folder, loss=cross_entropy_of), *tests


def digits(folder, optimizer, seed):
    folder.mkdir()
    inputs, labels = attribution.digits()
    settings = argparse.Namespace(
        seed=seed, activation="tanh", optimizer=optimizer, rate=0.1, batch=50
    )
    if optimizer == "adamw":
        settings.rate = 3e-3
    model, data = attribution.train(folder, inputs, labels, settings)
    tests = slice(attribution.TRAIN, attribution.TRAIN + 50)
    replay = Replay(model, folder / "run", loss=cross_entropy_of, data=data)
    return replay, inputs[tests], labels[tests]


def timed(work):
    began = time.process_time()
    return work(), time.process_time() - began


def rows_of(name, replay, inputs, labels, arguments):
    exact, whole = timed(lambda: path_kernel(replay, inputs, labels, target=margin))
    size = exact.contributions.square().mean().sqrt()
    for side in arguments.side:
        inside, errors, totals, seconds = [], [], [], []
        for seed in range(arguments.seed, arguments.seed + arguments.draws):
            settings = Projection(side=side, blocks=arguments.blocks, seed=seed)
            found, taken = timed(
                lambda s=settings: projected_path_kernel(
                    replay, inputs, labels, target=margin, projection=s
                )
            )
            miss = found.contributions - exact.contributions
            total = found.contributions.sum(1) + found.projection - exact.contributions.sum(1)
            inside.append(float((miss.abs() <= found.halfwidth).double().mean()))
            errors.append(float(miss.square().mean().sqrt() / size))
            totals.append(float(total.abs().max() / exact.change.abs().mean()))
            seconds.append(taken)
        yield {
            "model": name,
            "numbers a layer": side * side * arguments.blocks,
            "inside": f"{statistics.mean(inside):.3f}",
            "lowest, highest draw": f"{min(inside):.3f}, {max(inside):.3f}",
            "relative error": f"{statistics.mean(errors):.3f}",
            "sum off by": f"{max(totals):.0e}",
            "residual": f"{found.unexplained:.0e}",
            "seconds": f"{statistics.median(seconds):.2f}",
            "exact seconds": f"{whole:.2f}",
        }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, nargs="*", default=[2, 4, 8])
    parser.add_argument("--blocks", type=int, default=16)
    parser.add_argument("--draws", type=int, default=8, help="projections drawn and averaged")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    root = Path(tempfile.mkdtemp())
    runs = {
        "digits, SGD": lambda: digits(root / "sgd", "sgd", arguments.seed),
        "digits, AdamW": lambda: digits(root / "adamw", "adamw", arguments.seed),
        "encoder layer, momentum": lambda: transformer(
            root / "layer", arguments.steps, arguments.seed
        ),
    }
    rows = []
    for name, run in runs.items():
        rows += rows_of(name, *run(), arguments)
    machine.report("attribution_projected", rows, vars(arguments))


if __name__ == "__main__":
    main()
