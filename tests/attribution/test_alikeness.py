"""Alikeness is the cosine of gradients: 1 for copies, free of what a row was trained with."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cosine_similarity

from reference_attribution import OPTIMIZERS, gradient_of_row, network, problem, train
from unabridged.attribution import Replay, alikeness, cross_entropy_of, logit


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    inputs, labels = problem()
    model = network()
    train(model, OPTIMIZERS["sgd"](model.parameters()), folder, inputs, labels)
    return Replay(model, folder, loss=cross_entropy_of), inputs


def test_alikeness_is_the_cosine_of_gradients(recorded):
    replay, inputs = recorded
    label = torch.tensor([2])
    found = alikeness(replay, inputs[5:6], label, inputs[:43], target=logit)
    names, end = replay.layout.names, replay.parameters(-1)
    views = replay.layout.unflatten(end)

    def gradient(row):
        return gradient_of_row(
            replay.model, views, names, lambda run: logit(run(inputs[row : row + 1]), label)[0]
        )

    mine = gradient(5)
    wanted = torch.stack([cosine_similarity(mine, gradient(row), dim=0) for row in range(43)])
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)


def test_a_copy_is_most_alike_and_nothing_else_is(recorded):
    replay, inputs = recorded
    for row in range(7):
        found = alikeness(replay, inputs[row : row + 1], torch.tensor([1]), inputs, target=logit)
        assert int(found.argmax()) == row
        assert abs(float(found[row]) - 1) < 1e-12
        assert float(found.topk(2).values[1]) < 0.99


def test_a_small_budget_changes_nothing(recorded):
    replay, inputs = recorded
    whole = alikeness(replay, inputs[:1], torch.tensor([1]), inputs, target=logit)
    budget, replay.budget = replay.budget, 1
    parts = alikeness(replay, inputs[:1], torch.tensor([1]), inputs, target=logit)
    replay.budget = budget
    torch.testing.assert_close(parts, whole)


def test_several_rows_at_once_are_refused(recorded):
    replay, inputs = recorded
    with pytest.raises(ValueError, match="one row"):
        alikeness(replay, inputs[:2], torch.tensor([1, 1]), inputs, target=logit)
