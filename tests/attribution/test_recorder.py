"""The recorder's laws: it changes nothing, survives a kill, refuses what it cannot explain."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from reference_attribution import OPTIMIZERS, network, problem, train
from unabridged.attribution import (
    Loop,
    Recorder,
    RecordingError,
    Replay,
    cross_entropy_of,
    margin,
    path_kernel,
)


def recorded(folder, kind="adamw", **loop):
    inputs, labels = problem()
    model = network(dropout=loop.pop("dropout", 0.0))
    return train(model, OPTIMIZERS[kind](model.parameters()), folder, inputs, labels, **loop)


def test_recording_does_not_change_training(tmp_path):
    inputs, labels = problem()
    plain = network()
    optimizer = torch.optim.AdamW(plain.parameters(), lr=5e-3)
    for step in range(10):
        ids = torch.randint(61, (13,), generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        nn.functional.cross_entropy(plain(inputs[ids]), labels[ids]).backward()
        optimizer.step()
    watched = network()
    optimizer = torch.optim.AdamW(watched.parameters(), lr=5e-3)
    train(watched, optimizer, tmp_path, inputs, labels, steps=10, clip=None, scheduled=False)
    for mine, theirs in zip(watched.parameters(), plain.parameters(), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_interrupted_recording_continues_to_the_same_bits(kind, tmp_path):
    torch.manual_seed(5)
    whole = recorded(tmp_path / "whole", kind, dropout=0.2)
    torch.manual_seed(5)
    with pytest.raises(KeyboardInterrupt):
        recorded(tmp_path / "cut", kind, dropout=0.2, stop=23)
    torch.manual_seed(99)
    again = recorded(tmp_path / "cut", kind, dropout=0.2)
    for mine, theirs in zip(again.parameters(), whole.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    names = sorted(path.name for path in (tmp_path / "whole").glob("*.safetensors"))
    assert names == sorted(path.name for path in (tmp_path / "cut").glob("*.safetensors"))
    for name in names:
        one, two = load_file(tmp_path / "whole" / name), load_file(tmp_path / "cut" / name)
        assert one.keys() == two.keys()
        assert all(torch.equal(one[key], two[key]) for key in one if key != "random_state")


KILLED = """
import os, signal, sys
from reference_attribution import OPTIMIZERS, network, problem, train
folder, last = sys.argv[1], int(sys.argv[2])
model, (inputs, labels) = network(), problem()
optimizer = OPTIMIZERS["adamw"](model.parameters())
def killing(*_):
    killing.count += 1
    if killing.count == last:
        os.kill(os.getpid(), signal.SIGKILL)
killing.count = 0
optimizer.register_step_post_hook(killing)
train(model, optimizer, folder, inputs, labels)
"""


def test_killed_recording_continues_to_the_same_ledger(tmp_path):
    whole = recorded(tmp_path / "whole")
    path = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    for last, code in ((17, -signal.SIGKILL), (-1, 0)):
        command = [sys.executable, "-c", KILLED, str(tmp_path / "killed"), str(last)]
        run = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, check=False)
        assert run.returncode == code
    inputs, labels = problem()
    ledgers = [
        path_kernel(
            Replay(whole, tmp_path / name, loss=cross_entropy_of),
            inputs[:5],
            labels[:5],
            target=margin,
        )
        for name in ("whole", "killed")
    ]
    torch.testing.assert_close(ledgers[0].contributions, ledgers[1].contributions)


def test_corrupt_checkpoint_is_named(tmp_path):
    model = recorded(tmp_path)
    broken = tmp_path / "00000014.safetensors"
    content = bytearray(broken.read_bytes())
    content[-3] ^= 1
    broken.write_bytes(content)
    with pytest.raises(RecordingError, match=r"00000014\.safetensors .* corrupt"):
        Replay(model, tmp_path, loss=cross_entropy_of)


def test_missing_checkpoint_is_named(tmp_path):
    model = recorded(tmp_path)
    (tmp_path / "00000021.safetensors").unlink()
    with pytest.raises(RecordingError, match=r"00000021\.safetensors is missing"):
        Replay(model, tmp_path, loss=cross_entropy_of)


def test_model_of_another_shape_is_refused(tmp_path):
    recorded(tmp_path)
    with pytest.raises(RecordingError, match="changed since recording"):
        Replay(network(hidden=13), tmp_path, loss=cross_entropy_of)


def test_model_with_another_frozen_value_is_refused(tmp_path):
    inputs, labels = problem()
    model = network()
    model[0].requires_grad_(False)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    train(model, optimizer, tmp_path, inputs, labels, steps=5)
    Replay(model, tmp_path, loss=cross_entropy_of)
    with torch.no_grad():
        model[0].weight[0, 0] += 1e-6
    with pytest.raises(RecordingError, match="not trained"):
        Replay(model, tmp_path, loss=cross_entropy_of)


def test_model_trained_further_is_refused_and_restored(tmp_path):
    model = recorded(tmp_path)
    replay = Replay(model, tmp_path, loss=cross_entropy_of)
    replay.check(model)
    with torch.no_grad():
        model[0].weight[0, 0] += 1e-6
    with pytest.raises(RecordingError, match="changed after its recording"):
        replay.check(model)
    replay.restore(model)
    replay.check(model)


def test_another_loss_is_refused_at_replay(tmp_path):
    model = recorded(tmp_path, clip=None)
    inputs, labels = problem()

    def other(outputs, labels):
        return 2 * cross_entropy_of(outputs, labels)

    with pytest.raises(RecordingError, match=r"at step .* norm"):
        path_kernel(Replay(model, tmp_path, loss=other), inputs[:2], labels[:2], target=margin)


def test_loss_that_couples_rows_is_refused(tmp_path):
    model = recorded(tmp_path)

    def contrastive(outputs, labels):
        return cross_entropy_of(outputs - outputs.mean(0), labels)

    with pytest.raises(RecordingError, match="leave its batch"):
        Replay(model, tmp_path, loss=contrastive)


def test_averaged_loss_is_refused(tmp_path):
    model = recorded(tmp_path)
    with pytest.raises(ValueError, match="one loss a row"):
        Replay(model, tmp_path, loss=nn.functional.cross_entropy)


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (nn.BatchNorm1d(7), "depends on the other rows"),
        (nn.Embedding(5, 7, max_norm=1.0), "max_norm"),
        (nn.Embedding(5, 7, sparse=True), "sparse"),
        (nn.utils.parametrizations.weight_norm(nn.Linear(7, 7)), "parametrisation"),
    ],
    ids=["batchnorm", "max_norm", "sparse", "weight_norm"],
)
def test_modules_that_cannot_be_shared_out_are_refused_with_the_reason(module, reason, tmp_path):
    model = nn.Sequential(module)
    with pytest.raises(ValueError, match=reason):
        Recorder(model, torch.optim.SGD(model.parameters(), lr=0.1), tmp_path)


def test_frozen_batchnorm_is_accepted(tmp_path):
    inputs, labels = problem()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(7, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 3)).double()
    model[1].eval()
    train(model, torch.optim.SGD(model.parameters(), lr=0.1), tmp_path, inputs, labels, steps=10)
    replay = Replay(model, tmp_path, loss=cross_entropy_of)
    assert path_kernel(replay, inputs[:5], labels[:5], target=margin).unexplained < 1e-6


@pytest.mark.parametrize(
    ("optimizer", "reason"),
    [
        (lambda p: torch.optim.RMSprop(p), "RMSprop"),
        (lambda p: torch.optim.Adam(p, amsgrad=True), "amsgrad"),
        (lambda p: torch.optim.SGD(p, lr=0.1, maximize=True), "maximize"),
    ],
)
def test_other_optimizers_are_refused(optimizer, reason, tmp_path):
    model = network()
    with pytest.raises(ValueError, match=reason):
        Recorder(model, optimizer(model.parameters()), tmp_path)


def test_optimizer_that_stepped_before_is_refused(tmp_path):
    model = network()
    optimizer = torch.optim.Adam(model.parameters())
    model(problem()[0]).sum().backward()
    optimizer.step()
    with pytest.raises(ValueError, match="stepped before"):
        Recorder(model, optimizer, tmp_path)


def test_finished_recording_is_not_overwritten(tmp_path):
    recorded(tmp_path, steps=3)
    with pytest.raises(RecordingError, match="finished recording of 3 steps"):
        recorded(tmp_path, steps=3)


def test_unfinished_recording_of_another_run_is_refused(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        recorded(tmp_path, stop=10)
    with pytest.raises(RecordingError, match="another loop"):
        recorded(tmp_path, clip=0.7)


def test_forgotten_step_call_is_reported(tmp_path):
    inputs, labels = problem()
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def passes():
        with Recorder(model, optimizer, tmp_path):
            for _ in range(2):
                nn.functional.cross_entropy(model(inputs), labels).backward()
                optimizer.step()

    with pytest.raises(RecordingError, match="stepped twice"):
        passes()


def test_parameter_without_gradient_is_named(tmp_path):
    inputs, labels = problem()
    model = network()
    model.add_module("unused", nn.Linear(2, 2).double())
    model.forward = lambda rows: model[4](model[2](model[1](model[0](rows))))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match=r"unused\.weight"):
        train(model, optimizer, tmp_path, inputs, labels, steps=2)


def test_autocast_is_refused(tmp_path):
    inputs, _ = problem(dtype=torch.float32)
    model = network(dtype=torch.float32)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with (
        Recorder(model, optimizer, tmp_path),
        torch.autocast("cpu"),
        pytest.raises(ValueError, match="autocast"),
    ):
        model(inputs)


def test_ids_of_another_length_are_refused(tmp_path):
    inputs, labels = problem()
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Recorder(model, optimizer, tmp_path, loop=Loop()) as recorder:
        model(inputs)
        with pytest.raises(ValueError, match="one id a row"):
            recorder.step(torch.arange(5), inputs, labels)


def test_parameter_groups_with_rates_of_their_own_reconcile(tmp_path):
    inputs, labels = problem()
    model = network()
    groups = [
        {"params": model[0].parameters(), "lr": 0.05, "weight_decay": 0.0},
        {"params": [*model[1].parameters(), *model[4].parameters()], "lr": 0.2},
    ]
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.5, weight_decay=1e-2)
    train(model, optimizer, tmp_path, inputs, labels, steps=10)
    replay = Replay(model, tmp_path, loss=cross_entropy_of)
    assert path_kernel(replay, inputs[:5], labels[:5], target=margin).unexplained < 1e-6
