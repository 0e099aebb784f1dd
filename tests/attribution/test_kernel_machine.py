"""The kernel machine's laws: it is the ledger, split; and its weights are loss derivatives."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from reference_attribution import OPTIMIZERS, network, problem, train
from unabridged.attribution import (
    Recorder,
    Replay,
    cross_entropy_of,
    kernel_machine,
    margin,
    path_kernel,
)


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_kernel_machine_reconciles_and_agrees_with_the_ledger(kind, tmp_path):
    inputs, labels = problem()
    model = network(dropout=0.2)
    train(model, OPTIMIZERS[kind](model.parameters()), tmp_path, inputs, labels, steps=11)
    replay = Replay(model, tmp_path, loss=cross_entropy_of)
    machine = kernel_machine(replay, inputs[:5], labels[:5], target=margin)
    ledger = path_kernel(replay, inputs[:5], labels[:5], target=margin)
    torch.testing.assert_close(machine.parts.sum(2), ledger.contributions, rtol=0, atol=1e-5)
    total = machine.beta + (machine.alpha * machine.kernel).sum((1, 2)) + machine.residual
    torch.testing.assert_close(total, machine.prediction)
    assert float(machine.residual.abs().max()) < 1e-6
    assert 0 < machine.dispersion < 1


def test_one_step_of_gradient_descent_is_a_machine_with_constant_weights(tmp_path):
    inputs, labels = problem()
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    ids = torch.arange(13)
    with Recorder(model, optimizer, tmp_path) as recorder:
        outputs = model(inputs[ids])
        slopes = outputs.softmax(1).detach()
        nn.functional.cross_entropy(outputs, labels[ids]).backward()
        optimizer.step()
        recorder.step(ids, inputs[ids], labels[ids])
    replay = Replay(model, tmp_path, loss=cross_entropy_of)
    machine = kernel_machine(replay, inputs[:5], labels[:5], target=margin)
    expected = nn.functional.one_hot(labels[ids], 3) - slopes
    torch.testing.assert_close(machine.alpha, expected.expand(5, -1, -1))
    assert machine.dispersion < 1e-12
