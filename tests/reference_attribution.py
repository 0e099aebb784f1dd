"""Slow and obvious: training loops, gradients row by row, path integrals by brute force."""

from __future__ import annotations

import torch
from torch import nn
from torch.func import functional_call

from unabridged.attribution import Loop, Recorder

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.2, weight_decay=1e-3),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.03, momentum=0.9, weight_decay=1e-3),
    "nesterov": lambda p: torch.optim.SGD(
        p, lr=0.03, momentum=0.9, nesterov=True, weight_decay=1e-3
    ),
    "adam": lambda p: torch.optim.Adam(p, lr=5e-3, weight_decay=1e-3),
    "adamw": lambda p: torch.optim.AdamW(p, lr=5e-3, weight_decay=1e-2),
}


def problem(rows=61, width=7, classes=3, seed=0, dtype=torch.float64):
    """Vectors and labels that a small network can learn, with some noise."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(rows, width, generator=generator, dtype=dtype)
    weights = torch.randn(width, classes, generator=generator, dtype=dtype)
    noise = 0.5 * torch.randn(rows, classes, generator=generator, dtype=dtype)
    return inputs, (inputs @ weights + noise).argmax(1)


def network(width=7, hidden=11, classes=3, activation=nn.Tanh, dropout=0.0, dtype=torch.float64):
    """Linear, norm, activation, dropout, Linear, with reproducible starting values."""
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Linear(width, hidden),
        nn.LayerNorm(hidden),
        activation(),
        nn.Dropout(dropout),
        nn.Linear(hidden, classes),
    ).to(dtype)


def train(
    model,
    optimizer,
    folder,
    inputs,
    labels,
    *,
    steps=40,
    batch=13,
    clip=0.5,
    every=7,
    accumulate=1,
    stop=None,
    scheduled=True,
):
    """A plain loop under a Recorder; batch ids depend only on the step number."""
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 2 * steps)
    chosen = schedule if scheduled else None
    recorder = Recorder(
        model, optimizer, folder, loop=Loop(clip_norm=clip), every=every, scheduler=chosen
    )
    with recorder:
        for step in range(recorder.done, steps):
            optimizer.zero_grad()
            generator = torch.Generator().manual_seed(step)
            for part in range(accumulate):
                ids = torch.randint(len(labels), (batch - part,), generator=generator)
                loss = nn.functional.cross_entropy(model(inputs[ids]), labels[ids]) / accumulate
                loss.backward()
                if part == accumulate - 1:
                    if clip is not None:
                        nn.utils.clip_grad_norm_(model.parameters(), clip)
                    optimizer.step()
                    if scheduled:
                        schedule.step()
                    if stop is not None and step == stop:
                        raise KeyboardInterrupt
                recorder.step(ids, inputs[ids], labels[ids])
    return model


def gradient_of_row(model, parameters, names, scalar):
    """(P,) gradient of one scalar function of the model's parameters, by autograd."""
    leaves = {name: parameters[name].clone().requires_grad_() for name in names}
    value = scalar(lambda *inputs: functional_call(model, leaves, inputs))
    grads = torch.autograd.grad(value, list(leaves.values()), allow_unused=True)
    pairs = zip(grads, leaves.values(), strict=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in pairs])


def path_contributions_of_sgd(replay, inputs, labels, target, loss, *, nodes=24):
    """(T, n) path-kernel contributions of plain SGD, row by row, with a trapezoid of many nodes."""
    model, layout = replay.model, replay.layout
    model.eval()
    found = torch.zeros(len(labels), len(replay.ids), dtype=torch.float64)
    for segment in replay.backwards():
        for step in segment.steps:
            points = (torch.arange(nodes, dtype=torch.float64) + 0.5) / nodes
            for row in range(len(labels)):
                average = torch.zeros(layout.size, dtype=torch.float64)
                for point in points:
                    parameters = layout.unflatten(step.theta + point * step.change)
                    average += gradient_of_row(
                        model,
                        parameters,
                        layout.names,
                        lambda run, row=row: target(
                            run(inputs[row : row + 1]), labels[row : row + 1]
                        )[0],
                    )
                average /= nodes
                _add_examples(found[row], replay, step, average, loss)
    return found


def _add_examples(found, replay, step, average, loss):
    rows, targets = replay.batch(step.record, 0)
    rate = step.coefficients.nu * step.clip * replay.weight(step.record, 0)
    for place, number in enumerate(step.record.ids[0].tolist()):
        gradient = gradient_of_row(
            replay.model,
            replay.layout.unflatten(step.theta),
            replay.layout.names,
            lambda run, place=place: loss(run(rows[place : place + 1]), targets[place : place + 1])[
                0
            ],
        )
        column = replay.ids.tolist().index(number)
        found[column] -= rate * (average @ gradient)
