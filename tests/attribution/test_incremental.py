"""Added kernel terms solve the problem that they say they solve."""

from __future__ import annotations

import torch
from torch import nn

from reference_attribution import OPTIMIZERS, network, problem, train
from unabridged.attribution import (
    Recorder,
    Replay,
    TensorData,
    add_examples,
    cross_entropy_of,
)
from unabridged.attribution.incremental import training_time


def test_terms_of_a_linear_model_with_squared_loss_are_ridge_regression(tmp_path):
    inputs, _ = problem()
    goals = inputs @ torch.linspace(-1, 1, 14, dtype=torch.float64).view(7, 2)
    torch.manual_seed(0)
    model = nn.Linear(7, 2, bias=False).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Recorder(model, optimizer, tmp_path, data=TensorData(inputs, goals)) as recorder:
        for ids in torch.arange(61).split(13):
            rows, wanted = recorder.fetch(ids)
            optimizer.zero_grad()
            (0.5 * ((model(rows) - wanted) ** 2).sum(1)).mean().backward()
            optimizer.step()
            recorder.step(ids, rows, wanted)

    def half_square(outputs, wanted):
        return 0.5 * ((outputs - wanted) ** 2).sum(1)

    replay = Replay(model, tmp_path, loss=half_square, data=TensorData(inputs, goals))
    new, wanted = 2 * inputs[:5], goals[:5] + 1
    terms = add_examples(replay, new, wanted, time=3.0)
    weight = model.weight.detach()
    system = new.T @ new + torch.eye(7, dtype=torch.float64) / 3.0
    moved = torch.linalg.solve(system, new.T @ (wanted - new @ weight.T)).T
    tests = inputs[20:29]
    torch.testing.assert_close(terms.outputs(tests), tests @ (weight + moved).T)


def test_no_time_adds_nothing_and_more_time_fits_the_new_labels(tmp_path):
    inputs, labels = problem()
    model = network()
    train(model, OPTIMIZERS["sgd"](model.parameters()), tmp_path, inputs, labels)
    replay = Replay(model, tmp_path, loss=cross_entropy_of)
    new, other = inputs[:5], (labels[:5] + 1) % 3
    before = model(inputs).detach()
    nothing = add_examples(replay, new, other, time=1e-12)
    torch.testing.assert_close(nothing.outputs(inputs), before, rtol=0, atol=1e-8)
    fitted = add_examples(replay, new, other, time=1e3)
    assert torch.equal(fitted.outputs(new).argmax(1), other)


def test_training_time_is_the_sum_of_rates_over_an_examples_steps(tmp_path):
    inputs, labels = problem()
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    train(model, optimizer, tmp_path, inputs, labels, steps=10, scheduled=False)
    replay = Replay(model, tmp_path, loss=cross_entropy_of)
    assert abs(training_time(replay) - 10 * 0.2 / len(replay.ids)) < 1e-12
