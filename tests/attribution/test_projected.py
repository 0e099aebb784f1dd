"""Projected contributions: unbiased, inside their intervals, and summing exactly all the same."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from reference_attribution import OPTIMIZERS, network, problem, train
from unabridged.attribution import (
    Projection,
    Replay,
    cross_entropy_of,
    margin,
    path_kernel,
    projected_path_kernel,
)
from unabridged.attribution.sketch import Sketch


class Bags(nn.Module):
    """Words in a table, their states normed and mixed, then averaged."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(2)
        self.table = nn.Embedding(41, 17, padding_idx=0)
        self.mix = nn.Linear(17, 19)
        self.norm = nn.LayerNorm(19)
        self.out = nn.Linear(19, 3, bias=False)
        self.scale = nn.Parameter(torch.ones(19))

    def forward(self, words):
        states = torch.tanh(self.norm(self.mix(self.table(words))))
        return self.out((states * self.scale).mean(1))


def recorded(folder, kind):
    inputs, labels = problem()
    model = network(hidden=53)
    train(model, OPTIMIZERS[kind](model.parameters()), folder, inputs, labels)
    return Replay(model, folder, loss=cross_entropy_of), inputs[:11], labels[:11]


@pytest.fixture(scope="module")
def bags(tmp_path_factory):
    generator = torch.Generator().manual_seed(3)
    words = torch.randint(0, 41, (61, 5), generator=generator)
    labels = words.sum(1) % 3
    model = Bags().double()
    folder = tmp_path_factory.mktemp("bags")
    train(model, OPTIMIZERS["adamw"](model.parameters()), folder, words, labels)
    return Replay(model, folder, loss=cross_entropy_of), words[:11], labels[:11]


@pytest.mark.parametrize("kind", ["sgd", "momentum", "adamw"])
def test_projected_lines_sum_to_the_prediction(kind, tmp_path):
    replay, inputs, labels = recorded(tmp_path, kind)
    exact = path_kernel(replay, inputs, labels, target=margin)
    found = projected_path_kernel(replay, inputs, labels, target=margin)
    torch.testing.assert_close(
        found.contributions.sum(1) + found.projection, exact.contributions.sum(1)
    )
    assert found.unexplained < 1e-6
    lines = found.entries(4, count=3)
    assert "error of the projection" in [line.label for line in lines]
    total = math.fsum(line.amount for line in lines)
    assert math.isclose(total, float(found.prediction[4]), abs_tol=1e-12)


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_95_percent_of_contributions_lie_in_their_intervals(kind, tmp_path):
    replay, inputs, labels = recorded(tmp_path, kind)
    exact = path_kernel(replay, inputs, labels, target=margin).contributions
    inside, errors, spread = [], [], exact.square().mean().sqrt()
    for seed in range(3):
        found = projected_path_kernel(
            replay, inputs, labels, target=margin, projection=Projection(side=3, seed=seed)
        )
        miss = (found.contributions - exact).abs()
        inside.append((miss <= found.halfwidth).double().mean())
        errors.append(found.contributions - exact)
    assert 0.93 < float(torch.stack(inside).mean()) < 0.99
    assert float(torch.stack(errors).abs().mean()) > 1e-4 * float(spread)  # it does project
    assert float(torch.cat(errors).mean().abs()) < 0.05 * float(spread)  # and leans to no side


def test_every_kind_of_layer_lies_in_its_intervals(bags):
    replay, words, labels = bags
    exact = path_kernel(replay, words, labels, target=margin).contributions
    found = projected_path_kernel(
        replay, words, labels, target=margin, projection=Projection(side=3)
    )
    inside = ((found.contributions - exact).abs() <= found.halfwidth).double().mean()
    assert 0.92 < float(inside) < 0.995


def test_wider_projections_err_less_at_the_known_rate(tmp_path):
    replay, inputs, labels = recorded(tmp_path, "sgd")
    exact = path_kernel(replay, inputs, labels, target=margin).contributions
    errors = []
    for blocks in (8, 128):
        settings = Projection(side=2, blocks=blocks)
        found = projected_path_kernel(replay, inputs, labels, target=margin, projection=settings)
        errors.append(float((found.contributions - exact).square().mean().sqrt()))
    assert 2.8 < errors[0] / errors[1] < 5.6  # sqrt(16) is 4


def test_sketches_of_factors_and_of_formed_gradients_are_equal(bags):
    replay, words, labels = bags
    end = replay.parameters(-1)
    gradients = replay.slopes(end, words, labels, margin)
    sketch = Sketch(4, 3, (7,))
    formed = sketch.of_rows(gradients.rows(end), gradients)
    torch.testing.assert_close(sketch.of_factors(gradients), formed)


def test_sketched_products_are_unbiased(bags):
    replay, words, labels = bags
    end = replay.parameters(-1)
    gradients = replay.slopes(end, words, labels, margin)
    rows = gradients.rows(end)
    sketches = Sketch(4000, 2, (1,)).of_factors(gradients)
    products = torch.bmm(sketches, sketches.mT)
    error = products.std(0) / 4000**0.5
    assert bool(((products.mean(0) - rows @ rows.T).abs() < 5 * error + 1e-12).all())


def test_equal_seeds_give_equal_bits(tmp_path):
    replay, inputs, labels = recorded(tmp_path, "momentum")
    one, other, third = (
        projected_path_kernel(
            replay, inputs, labels, target=margin, projection=Projection(side=2, seed=seed)
        )
        for seed in (5, 5, 6)
    )
    assert torch.equal(one.contributions, other.contributions)
    assert not torch.equal(one.contributions, third.contributions)


def test_too_few_blocks_for_an_interval_are_refused():
    with pytest.raises(ValueError, match="at least 4 blocks"):
        Projection(blocks=3)


def test_shared_parameters_are_refused(tmp_path):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.layer = nn.Linear(7, 7)
            self.out = nn.Linear(7, 3)

        def forward(self, x):
            return self.out(torch.tanh(self.layer(torch.tanh(self.layer(x)))))

    inputs, labels = problem()
    model = Twice().double()
    train(model, OPTIMIZERS["sgd"](model.parameters()), tmp_path, inputs, labels)
    replay = Replay(model, tmp_path, loss=cross_entropy_of)
    with pytest.raises(ValueError, match="share a parameter"):
        projected_path_kernel(replay, inputs[:2], labels[:2], target=margin)
