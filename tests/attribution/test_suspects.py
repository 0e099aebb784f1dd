"""Wrong labels are found, planted duplicates and planted wrong labels are named first."""

from __future__ import annotations

import pytest
import torch

from reference_attribution import OPTIMIZERS, network, problem, train
from unabridged.attribution import Replay, cross_entropy_of, margin, path_kernel, suspects


def trained(folder, inputs, labels, kind="sgd", **loop):
    model = network()
    options = {"steps": 120, "batch": 23, "clip": None, "every": 30, **loop}
    train(model, OPTIMIZERS[kind](model.parameters()), folder, inputs, labels, **options)
    return Replay(model, folder, loss=cross_entropy_of)


def clean_problem():
    inputs, _ = problem(rows=211)
    return 3 * inputs, inputs[:, :3].argmax(1)


def test_flipped_labels_are_ranked_first(tmp_path):
    inputs, labels = clean_problem()
    inputs[:, :3] += 3 * torch.nn.functional.one_hot(labels, 3)
    flipped = torch.arange(0, 211, 19)
    labels[flipped] = (labels[flipped] + 1) % 3
    replay = trained(tmp_path, inputs, labels)
    found = suspects(replay, replay.ids, inputs[replay.ids], labels[replay.ids])
    first = found.ranked()[: len(flipped)]
    assert int(torch.isin(first, flipped).sum()) >= len(flipped) - 1


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_planted_duplicate_is_named_first(kind, tmp_path):
    inputs, labels = clean_problem()
    inputs[:, 3:] = 0
    question = torch.tensor([[0.0, 0.0, 0.1, 4.0, -5.0, 3.0, 4.0]], dtype=torch.float64)
    inputs[5], labels[5] = question[0], 0
    replay = trained(tmp_path, inputs, labels, kind)
    ledger = path_kernel(replay, question, torch.tensor([0]), target=margin)
    assert ledger.top(0, 1)[0].id == 5
    assert ledger.top(0, 1)[0].amount > 0


def test_planted_wrong_label_is_named_first_against_the_truth(tmp_path):
    inputs, labels = clean_problem()
    inputs[:, 3:] = 0
    question = torch.tensor([[3.0, 0.0, 0.1, 4.0, -5.0, 3.0, 4.0]], dtype=torch.float64)
    inputs[5], labels[5] = question[0], 2
    replay = trained(tmp_path, inputs, labels)
    ledger = path_kernel(replay, question, torch.tensor([0]), target=margin)
    assert ledger.top(0, 1)[0].id == 5
    assert ledger.top(0, 1)[0].amount < 0
