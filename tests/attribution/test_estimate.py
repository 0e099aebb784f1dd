"""The price that is named beforehand is near the price that is paid."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from reference_attribution import OPTIMIZERS, network, problem, train
from unabridged.attribution import cross_entropy_of, estimate


@pytest.mark.parametrize("kind", ["sgd", "momentum", "adamw"])
def test_estimated_bytes_are_those_on_disk(kind, tmp_path):
    inputs, labels = problem()
    model = network(dropout=0.1, hidden=211)
    optimizer = OPTIMIZERS[kind](model.parameters())
    batch = inputs[:13], labels[:13]
    found = estimate(model, optimizer, batch, inputs[:5], loss=cross_entropy_of, steps=40, every=7)
    train(model, optimizer, tmp_path, inputs, labels, steps=40, every=7)
    paid = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert 0.8 < found.bytes / paid < 1.25
    assert found.minutes > 0
    assert found.memory > 0


def test_estimate_refuses_what_the_recorder_refuses():
    inputs, labels = problem()
    model = nn.Sequential(nn.Linear(7, 3), nn.BatchNorm1d(3)).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="depends on the other rows"):
        estimate(model, optimizer, (inputs, labels), inputs, loss=cross_entropy_of, steps=3)
