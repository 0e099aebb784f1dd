"""The adjoint's law: it is the derivative of retraining by the weight of every example."""

from __future__ import annotations

import pytest
import torch

from reference_attribution import OPTIMIZERS, network, problem, train
from unabridged.attribution import Replay, adjoint, cross_entropy_of, margin, retrain


def replayed(folder, kind, **loop):
    inputs, labels = problem()
    model = network(dropout=loop.pop("dropout", 0.0))
    train(model, OPTIMIZERS[kind](model.parameters()), folder, inputs, labels, **loop)
    return Replay(model, folder, loss=cross_entropy_of), inputs, labels


def difference(replay, inputs, labels, direction, size=1e-5):
    """Central difference of retraining along one direction of weights."""
    ends = []
    for sign in (1, -1):
        theta = retrain(replay, 1 + sign * size * direction)
        ends.append(replay.values(theta, inputs, labels, margin))
    return (ends[0] - ends[1]) / (2 * size)


@pytest.mark.parametrize("clip", [None, 0.5], ids=["unclipped", "clipped"])
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_adjoint_is_the_derivative_of_retraining(kind, clip, tmp_path):
    replay, inputs, labels = replayed(tmp_path, kind, clip=clip, steps=17, dropout=0.2)
    effects = adjoint(replay, inputs[:5], labels[:5], target=margin)
    generator = torch.Generator().manual_seed(2)
    direction = torch.randn(len(replay.ids), generator=generator, dtype=torch.float64)
    expected = difference(replay, inputs[:5], labels[:5], direction)
    torch.testing.assert_close(effects.values @ direction, expected, rtol=1e-5, atol=1e-6)


def test_adjoint_with_accumulation_is_the_derivative_of_retraining(tmp_path):
    replay, inputs, labels = replayed(tmp_path, "adamw", accumulate=2, steps=11)
    effects = adjoint(replay, inputs[:3], labels[:3], target=margin)
    direction = torch.linspace(-1, 1, len(replay.ids), dtype=torch.float64)
    expected = difference(replay, inputs[:3], labels[:3], direction)
    torch.testing.assert_close(effects.values @ direction, expected, rtol=1e-5, atol=1e-6)


def test_retraining_with_unit_weights_reproduces_the_recorded_model(tmp_path):
    replay, _, _ = replayed(tmp_path, "adamw", dropout=0.2)
    theta = retrain(replay, torch.ones(len(replay.ids)))
    torch.testing.assert_close(theta, replay.parameters(-1))


def test_error_of_reweighting_shrinks_as_the_square_of_the_weight(tmp_path):
    replay, inputs, labels = replayed(tmp_path, "momentum", clip=None)
    effects = adjoint(replay, inputs, labels, target=margin)
    errors = []
    for size in (0.1, 0.05):
        weights = 1 - size * (replay.ids < 3).double()
        true = replay.values(retrain(replay, weights), inputs, labels, margin)
        errors.append(float((true - effects.reweighted(weights)).norm()))
    assert 3.5 < errors[0] / errors[1] < 4.5


def test_predict_without_is_closer_to_retraining_than_no_prediction(tmp_path):
    replay, inputs, labels = replayed(tmp_path, "sgd", clip=None)
    effects = adjoint(replay, inputs, labels, target=margin)
    weights = (replay.ids >= 2).double()
    true = replay.values(retrain(replay, weights), inputs, labels, margin)
    left = (true - effects.predict_without(replay.ids[:2])).norm()
    assert float(left) < 0.5 * float((true - effects.prediction).norm())


def test_renormalised_removal_moves_nothing_when_all_weights_grow_alike(tmp_path):
    replay, inputs, labels = replayed(tmp_path, "sgd", clip=None)
    zero = adjoint(replay, inputs[:5], labels[:5], target=margin)
    centred = adjoint(replay, inputs[:5], labels[:5], target=margin, removal="renormalise")
    assert float(centred.values.sum(1).abs().max()) < 1e-9
    assert float(zero.values.sum(1).abs().max()) > 1e-3


def test_unknown_ids_are_refused(tmp_path):
    replay, inputs, labels = replayed(tmp_path, "sgd", steps=3)
    effects = adjoint(replay, inputs[:2], labels[:2], target=margin)
    with pytest.raises(ValueError, match="id 999 took no part"):
        effects.predict_without(torch.tensor([999]))
    with pytest.raises(ValueError, match="wanted one for each"):
        effects.reweighted(torch.ones(3))
    with pytest.raises(ValueError, match="wanted one for each"):
        retrain(replay, torch.ones(3))
