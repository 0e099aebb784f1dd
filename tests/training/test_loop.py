"""The loop: equal seeds, equal bits; kills and interruptions change nothing."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace

import pytest
import torch
from torch import nn

from unabridged.training import Schedule, Settings, TrainingError, make_optimizer, train
from unabridged.training.seeds import generator

SETTINGS = Settings(steps=11, schedule=Schedule(peak=0.02), save_steps=3, seed=5)


class Killed(Exception):  # noqa: N818
    """Stands for a kill: nothing after it is saved."""


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return nn.Sequential(nn.Linear(5, 7), nn.Dropout(0.3), nn.Tanh(), nn.Linear(7, 1))


def batches(number: int) -> torch.Tensor:
    return torch.randn(13, 5, generator=generator(17, number))


def fit(model, inputs, drawn):
    noise = 0.1 * torch.randn(len(inputs), 1, generator=drawn)
    return (model(inputs) - inputs.sum(1, keepdim=True) - noise).square().mean()


def killer(step_number):
    def on_step(step):
        if step.number == step_number:
            raise Killed

    return on_step


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def history(folder):
    lines = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


def test_equal_seeds_give_equal_bits_and_others_do_not(tmp_path):
    first, second, other = network(), network(), network()
    train(first, fit, batches, folder=tmp_path / "a", settings=SETTINGS)
    torch.manual_seed(99)  # the caller's random state is none of the loop's business
    train(second, fit, batches, folder=tmp_path / "b", settings=SETTINGS)
    train(other, fit, batches, folder=tmp_path / "c", settings=replace(SETTINGS, seed=6))
    assert torch.equal(weights(first), weights(second))
    assert not torch.equal(weights(first), weights(other))


def test_the_callers_random_state_is_left_alone(tmp_path):
    before = torch.get_rng_state()
    train(network(), fit, batches, folder=tmp_path, settings=SETTINGS)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("killed_at", [1, 3, 4, 8])
def test_a_killed_run_continues_to_the_same_bits(tmp_path, killed_at):
    whole, parts = network(), network()
    held_out = [batches(1001), batches(1002)]
    settings = replace(SETTINGS, look_every=4)
    train(whole, fit, batches, folder=tmp_path / "whole", settings=settings, held_out=held_out)
    options = {"folder": tmp_path / "parts", "settings": settings, "held_out": held_out}
    with pytest.raises(Killed):
        train(parts, fit, batches, on_step=killer(killed_at), **options)
    parts = network()
    train(parts, fit, batches, **options)
    assert torch.equal(weights(whole), weights(parts))
    assert history(tmp_path / "whole") == history(tmp_path / "parts")


def test_a_finished_run_is_loaded_and_not_run_again(tmp_path):
    first, again = network(), network()
    done = train(first, fit, batches, folder=tmp_path, settings=SETTINGS)
    assert train(again, fit, batches, folder=tmp_path, settings=SETTINGS, on_step=killer(1)) == done
    assert torch.equal(weights(first), weights(again))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_saves_and_the_next_run_continues(tmp_path, number):
    whole, parts = network(), network()
    settings = replace(SETTINGS, save_steps=None)
    train(whole, fit, batches, folder=tmp_path / "whole", settings=settings)

    def interrupt(step):
        if step.number == 5:
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    options = {"folder": tmp_path / "parts", "settings": settings}
    first = train(parts, fit, batches, on_step=interrupt, **options)
    assert (first.ended, first.steps) == ("interrupted", 5)
    assert signal.getsignal(number) is before
    parts = network()
    assert train(parts, fit, batches, **options).ended == "finished"
    assert torch.equal(weights(whole), weights(parts))


def test_other_settings_are_refused_with_the_difference(tmp_path):
    train(network(), fit, batches, folder=tmp_path, settings=SETTINGS)
    with pytest.raises(TrainingError, match="a run with steps 11, and now it is 12"):
        train(network(), fit, batches, folder=tmp_path, settings=replace(SETTINGS, steps=12))


def test_another_model_and_a_damaged_checkpoint_are_refused(tmp_path):
    train(network(), fit, batches, folder=tmp_path, settings=SETTINGS)
    with pytest.raises(TrainingError, match="of another model"):
        train(nn.Linear(5, 1), fit, batches, folder=tmp_path, settings=SETTINGS)
    (tmp_path / "state.safetensors").write_bytes(b"\x00" * 100)
    with pytest.raises(TrainingError, match="is damaged"):
        train(network(), fit, batches, folder=tmp_path, settings=SETTINGS)


def test_the_model_ends_with_the_weights_that_held_out_batches_liked_best(tmp_path):
    model = network()
    settings = replace(SETTINGS, steps=40, schedule=Schedule(peak=0.02), look_every=2, patience=3)
    wrong = [-batches(1001)]  # the further the training, the worse on these
    looked = lambda m, x, g: fit(m, x, g) * (1 if m.training else -1)  # noqa: E731
    done = train(model, looked, batches, folder=tmp_path, settings=settings, held_out=wrong)
    assert done.ended == "converged"
    assert (done.best_step, done.steps) == (0, 6)
    assert done.held_out == done.held_out_before
    assert torch.equal(weights(model), weights(network()))


def test_a_look_changes_nothing(tmp_path):
    seen, unseen = network(), network()
    settings = replace(SETTINGS, look_every=1)
    train(unseen, fit, batches, folder=tmp_path / "a", settings=settings)
    done = train(
        seen, fit, batches, folder=tmp_path / "b", settings=settings, held_out=[batches(0)]
    )
    losses = [line["loss"] for line in history(tmp_path / "b") if "loss" in line]
    assert losses == [line["loss"] for line in history(tmp_path / "a")]
    assert done.held_out < done.held_out_before


def test_accumulated_batches_are_one_larger_batch(tmp_path):
    one, two = network(), network()
    plain = lambda model, x, _: model(x).square().mean()  # noqa: E731
    settings = replace(SETTINGS, dropout="off", steps=5)
    train(one, plain, batches, folder=tmp_path / "a", settings=replace(settings, accumulate=2))
    joined = lambda n: torch.cat([batches(2 * n), batches(2 * n + 1)])  # noqa: E731
    train(two, plain, joined, folder=tmp_path / "b", settings=settings)
    torch.testing.assert_close(weights(one), weights(two), rtol=1e-4, atol=1e-6)


def test_time_ends_a_run_and_its_schedule(tmp_path):
    rates = []
    settings = replace(SETTINGS, steps=10**9, seconds=0.3)
    done = train(
        network(), fit, batches, folder=tmp_path, settings=settings,
        on_step=lambda step: rates.append(step.rate),
    )  # fmt: skip
    assert done.ended == "out of time"
    assert done.seconds >= 0.3
    assert rates[-1] < 0.2 * max(rates)


def test_gradients_are_clipped_and_their_length_is_told(tmp_path):
    norms = []
    settings = replace(SETTINGS, steps=3, clip_norm=1e-3)

    def on_step(step):
        gradients = [p.grad.flatten() for g in step.optimizer.param_groups for p in g["params"]]
        norms.append((step.norm, float(torch.cat(gradients).norm())))

    train(network(), fit, batches, folder=tmp_path, settings=settings, on_step=on_step)
    assert all(before > 1e-3 and after == pytest.approx(1e-3, rel=1e-3) for before, after in norms)


def test_a_loss_that_is_no_number_ends_with_advice(tmp_path):
    broken = lambda model, x, _: model(x).mean() * float("nan")  # noqa: E731
    with pytest.raises(TrainingError, match=r"at step 1 the loss is nan.*lower the learning rate"):
        train(network(), broken, batches, folder=tmp_path, settings=SETTINGS)


def test_bfloat16_rounds_the_forward_pass_and_not_the_weights(tmp_path):
    exact, rounded = network(), network()
    train(exact, fit, batches, folder=tmp_path / "a", settings=SETTINGS)
    settings = replace(SETTINGS, precision="bfloat16")
    train(rounded, fit, batches, folder=tmp_path / "b", settings=settings)
    assert {p.dtype for p in rounded.parameters()} == {torch.float32}
    assert not torch.equal(weights(exact), weights(rounded))
    torch.testing.assert_close(weights(exact), weights(rounded), rtol=0.1, atol=0.02)


def test_frozen_parameters_stay(tmp_path):
    model = network()
    model[0].requires_grad_(False)
    train(model, fit, batches, folder=tmp_path, settings=SETTINGS)
    assert torch.equal(model[0].weight, network()[0].weight)
    assert not torch.equal(model[3].weight, network()[3].weight)
    with pytest.raises(ValueError, match="no parameter requires a gradient"):
        make_optimizer(model.requires_grad_(False), SETTINGS)


def test_vectors_do_not_decay():
    groups = make_optimizer(network(), replace(SETTINGS, decay=0.3)).param_groups
    decays = {p.ndim: group["weight_decay"] for group in groups for p in group["params"]}
    assert decays == {2: 0.3, 1: 0.0}


def test_the_losses_are_drawn(tmp_path):
    train(network(), fit, batches, folder=tmp_path, settings=SETTINGS, held_out=[batches(0)])
    drawing = (tmp_path / "history.svg").read_text()
    assert drawing.count("<polyline") == 3
    assert "held out" in drawing


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match="steps is 0"):
        Settings(steps=0)
    with pytest.raises(ValueError, match="precision is 'half'"):
        Settings(steps=1, precision="half")
    with pytest.raises(ValueError, match="seconds is -1"):
        Settings(steps=1, seconds=-1)
    with pytest.raises(ValueError, match="warmup 1"):
        Schedule(warmup=1)
    with pytest.raises(ValueError, match="decay is 'root'"):
        Schedule(decay="root")


def test_the_objective_gets_other_randomness_in_every_step_and_batch_but_not_when_looking(tmp_path):
    drawn = {True: [], False: []}

    def noting(model, inputs, source):
        drawn[torch.is_grad_enabled()].append(float(torch.rand((), generator=source)))
        return fit(model, inputs, source)

    settings = replace(SETTINGS, steps=4, accumulate=2, look_every=2)
    looks = [batches(1001), batches(1002)]
    train(network(), noting, batches, folder=tmp_path, settings=settings, held_out=looks)
    assert len(set(drawn[True])) == 8
    assert drawn[False] == 3 * drawn[False][:2]
