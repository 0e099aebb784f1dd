"""The ledger's laws: it reconciles for every optimiser, and its parts are what they are called."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from reference_attribution import OPTIMIZERS, network, path_contributions_of_sgd, problem, train
from unabridged.attribution import (
    Recorder,
    Replay,
    TensorData,
    cross_entropy_of,
    logit,
    margin,
    path_kernel,
    probability,
)


def replayed(folder, kind="sgd", *, activation=nn.Tanh, dropout=0.0, dtype=torch.float64, **loop):
    inputs, labels = problem(dtype=dtype)
    model = network(activation=activation, dropout=dropout, dtype=dtype)
    train(model, OPTIMIZERS[kind](model.parameters()), folder, inputs, labels, **loop)
    return Replay(model, folder, loss=cross_entropy_of), inputs, labels


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_ledger_reconciles_with_decay_clipping_schedule_and_dropout(kind, tmp_path):
    replay, inputs, labels = replayed(tmp_path, kind, dropout=0.2)
    ledger = path_kernel(replay, inputs[:19], labels[:19], target=margin)
    assert ledger.unexplained < 1e-6
    assert float(ledger.decay.abs().max()) > 1e-5


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_ledger_reconciles_across_the_kinks_of_relu(kind, tmp_path):
    replay, inputs, labels = replayed(tmp_path, kind, activation=nn.ReLU, steps=20)
    ledger = path_kernel(replay, inputs[:5], labels[:5], target=margin)
    assert ledger.unexplained < 1e-6


@pytest.mark.parametrize("kind", ["momentum", "adamw"])
def test_ledger_of_float32_training_reconciles_with_rounding_counted_as_unexplained(kind, tmp_path):
    replay, inputs, labels = replayed(tmp_path, kind, dtype=torch.float32)
    ledger = path_kernel(replay, inputs[:19], labels[:19], target=margin)
    left = (ledger.residual + ledger.rounding).abs().max() / ledger.change.abs().mean()
    assert float(left) < 1e-6


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_ledger_reconciles_with_accumulated_batches_of_unequal_size(kind, tmp_path):
    replay, inputs, labels = replayed(tmp_path, kind, accumulate=3, steps=20)
    ledger = path_kernel(replay, inputs[:5], labels[:5], target=logit)
    assert ledger.unexplained < 1e-6


def test_one_node_a_step_leaves_a_thousand_times_more_unexplained(tmp_path):
    replay, inputs, labels = replayed(tmp_path, "sgd", clip=None)
    loose = path_kernel(replay, inputs[:19], labels[:19], target=margin, tolerance=1e9)
    tight = path_kernel(replay, inputs[:19], labels[:19], target=margin)
    assert loose.unexplained > 1e3 * tight.unexplained


def test_contributions_equal_brute_force_integration_row_by_row(tmp_path):
    replay, inputs, labels = replayed(tmp_path, "sgd", steps=5, every=2)
    ledger = path_kernel(replay, inputs[:3], labels[:3], target=margin)
    slow = path_contributions_of_sgd(replay, inputs[:3], labels[:3], margin, cross_entropy_of)
    # The midpoint rule with 24 nodes is good to about 1e-4 here.
    torch.testing.assert_close(ledger.contributions, slow, rtol=0, atol=1e-5)


def test_ghost_products_and_formed_gradients_agree(tmp_path):
    replay, inputs, labels = replayed(tmp_path / "plain", "sgd", clip=None, steps=9)
    ghost = path_kernel(replay, inputs[:5], labels[:5], target=margin, tolerance=1e-9)
    replay.rates[:, :, 1] = 1e-300  # as good as no momentum, but takes the formed way
    formed = path_kernel(replay, inputs[:5], labels[:5], target=margin, tolerance=1e-9)
    torch.testing.assert_close(ghost.contributions, formed.contributions, rtol=0, atol=1e-9)


def linear_regression(folder, *, lr=0.05, ids_of=lambda step: torch.arange(step % 3, 31, 3)):
    inputs, _ = problem(rows=31)
    goals = inputs @ torch.linspace(-1, 1, 7, dtype=torch.float64)[:, None]
    torch.manual_seed(0)
    model = nn.Linear(7, 1).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    data = TensorData(inputs, goals)
    with Recorder(model, optimizer, folder, every=5, data=data) as recorder:
        for step in range(12):
            ids = ids_of(step)
            rows, wanted = recorder.fetch(ids)
            optimizer.zero_grad()
            (0.5 * (model(rows) - wanted) ** 2).mean().backward()
            optimizer.step()
            recorder.step(ids, rows, wanted)
    half_square = lambda outputs, wanted: 0.5 * ((outputs - wanted) ** 2)[:, 0]  # noqa: E731
    return Replay(model, folder, loss=half_square, data=data), inputs, goals


def output(outputs, labels):
    return outputs[:, 0]


def test_linear_model_with_squared_loss_needs_one_node_for_twelve_digits(tmp_path):
    replay, inputs, goals = linear_regression(tmp_path)
    ledger = path_kernel(replay, inputs, goals, target=output, tolerance=1e9)
    assert ledger.gradients_spent <= replay.steps * 31 + 31
    assert ledger.unexplained < 1e-12


def test_linear_contributions_are_gram_matrix_times_residuals(tmp_path):
    replay, inputs, goals = linear_regression(tmp_path, ids_of=lambda step: torch.arange(31))
    ledger = path_kernel(replay, inputs, goals, target=output)
    gram = inputs @ inputs.T + 1
    slopes = torch.zeros(31, dtype=torch.float64)
    for segment in replay.backwards():
        for step in segment.steps:
            slope = replay.values(step.theta, inputs, goals, output) - goals[:, 0]
            slopes += 0.05 / 31 * slope
    torch.testing.assert_close(ledger.contributions, -gram * slopes)


def test_permuting_ids_permutes_contributions(tmp_path):
    order = torch.randperm(31, generator=torch.Generator().manual_seed(3))
    replay, inputs, goals = linear_regression(tmp_path / "a")
    first = path_kernel(replay, inputs, goals, target=output)
    data = TensorData(inputs[order], goals[order])  # row j of the new data is row order[j]
    torch.manual_seed(0)
    model = nn.Linear(7, 1).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    places = order.argsort()
    with Recorder(model, optimizer, tmp_path / "b", data=data) as recorder:
        for step in range(12):
            ids = places[torch.arange(step % 3, 31, 3)]
            rows, wanted = recorder.fetch(ids)
            optimizer.zero_grad()
            (0.5 * (model(rows) - wanted) ** 2).mean().backward()
            optimizer.step()
            recorder.step(ids, rows, wanted)
    other = Replay(model, tmp_path / "b", loss=replay.loss, data=data)
    second = path_kernel(other, inputs, goals, target=output)
    torch.testing.assert_close(second.contributions, first.contributions[:, order])


def test_step_of_rate_zero_contributes_zero(tmp_path):
    replay, inputs, goals = linear_regression(tmp_path, lr=0.0)
    ledger = path_kernel(replay, inputs, goals, target=output)
    assert torch.count_nonzero(ledger.contributions) == 0
    assert torch.count_nonzero(ledger.residual) == 0


def test_example_twice_in_a_batch_counts_twice(tmp_path):
    twice = torch.tensor([4, 9, 9, 17])
    replay, inputs, goals = linear_regression(tmp_path, ids_of=lambda step: twice)
    ledger = path_kernel(replay, inputs, goals, target=output)
    step = next(replay.backwards()).steps[0]
    ((ids, gradients),) = replay.row_gradients(step)
    assert ids.tolist() == twice.tolist()
    single = gradients.rows(step.theta)
    torch.testing.assert_close(single[1], single[2])
    assert ledger.ids.tolist() == [4, 9, 17]
    assert ledger.unexplained < 1e-12


@pytest.mark.parametrize("target", [logit, margin, probability, cross_entropy_of])
def test_every_target_reconciles(target, tmp_path):
    replay, inputs, labels = replayed(tmp_path, "sgd", steps=15)
    ledger = path_kernel(replay, inputs[:7], labels[:7], target=target)
    assert ledger.unexplained < 1e-6


def test_small_budget_gives_the_same_ledger_in_pieces(tmp_path):
    replay, inputs, labels = replayed(tmp_path, "adamw", steps=10)
    whole = path_kernel(replay, inputs[:11], labels[:11], target=margin)
    replay.budget = 40_000
    pieces = path_kernel(replay, inputs[:11], labels[:11], target=margin)
    torch.testing.assert_close(pieces.contributions, whole.contributions, rtol=0, atol=1e-5)
    assert pieces.unexplained < 1e-6


def test_augmented_inputs_are_drawn_again_with_the_recorded_random_state(tmp_path):
    inputs, labels = problem()
    model = network(dropout=0.3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def augmented(ids):
        return inputs[ids] + 0.3 * torch.randn(len(ids), 7, dtype=torch.float64), labels[ids]

    with Recorder(model, optimizer, tmp_path, data=augmented, every=4) as recorder:
        for step in range(10):
            ids = torch.arange(step, 61, 5)
            rows, wanted = recorder.fetch(ids)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(rows), wanted).backward()
            optimizer.step()
            recorder.step(ids, rows, wanted)
    replay = Replay(model, tmp_path, loss=cross_entropy_of, data=augmented)
    ledger = path_kernel(replay, inputs[:7], labels[:7], target=margin)
    assert ledger.unexplained < 1e-6
    torch.testing.assert_close(
        ledger.rounding, torch.zeros_like(ledger.rounding), rtol=0, atol=1e-12
    )


def test_labels_of_another_length_are_refused(tmp_path):
    replay, inputs, labels = replayed(tmp_path, "sgd", steps=3)
    with pytest.raises(ValueError, match="give one label a row"):
        path_kernel(replay, inputs[:5], labels[:4], target=margin)


@pytest.mark.parametrize("kind", ["momentum", "nesterov", "adamw"])
def test_rounding_of_recorded_buffers_is_no_residual(kind, tmp_path):
    """A float32 run with a checkpoint every other step: its buffers are rounded each time."""
    inputs, labels = problem(dtype=torch.float32)
    model = network(dtype=torch.float32)
    train(model, OPTIMIZERS[kind](model.parameters()), tmp_path, inputs, labels, every=2)
    replay = Replay(model, tmp_path, loss=cross_entropy_of)
    ledger = path_kernel(replay, inputs[:7], labels[:7], target=margin, tolerance=1e-9)
    change = ledger.change.abs().mean()
    assert ledger.unexplained < 1e-9
    assert float(ledger.rounding.abs().max() / change) > 1e-9
