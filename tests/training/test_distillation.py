"""Windows tile a text, and a model that reads as its teacher does has nothing to learn."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import nn

from unabridged.encoder.checkpoint import find_checkpoint
from unabridged.encoder.loading import load_weights
from unabridged.training import Batch
from unabridged.training.distillation import Distillation, Weights, _means, mean_pooling
from unabridged.training.seeds import generator
from unabridged.training.windows import read_windows, window_spans

NOTHING = Weights(tokens=0, passages=0, document=0, finding=0, pieces=0)


class Bag(nn.Module):
    """Reads every token for itself, so that windows and whole agree, and counts its rows."""

    def __init__(self, width=13, shift=0.0):
        super().__init__()
        self.table = nn.Embedding(101, width)
        nn.init.normal_(self.table.weight, generator=generator(0, 1))
        self.shift = nn.Parameter(torch.full((width,), shift))
        self.rows = []

    def forward(self, input_ids):
        self.rows.append(tuple(input_ids.shape))
        states = self.table(input_ids) + self.shift * torch.arange(self.shift.numel())
        return type("Output", (), {"last_hidden_state": states})


class Places(nn.Module):
    """A state is the place of its token in the window."""

    def forward(self, input_ids):
        places = torch.arange(input_ids.shape[1], dtype=torch.float32)
        states = places.expand(input_ids.shape)[..., None]
        return type("Output", (), {"last_hidden_state": states})


def block(tokens):
    inner = torch.randint(5, 101, (tokens,), generator=generator(2, tokens))
    return torch.cat([torch.tensor([1, 2]), inner, torch.tensor([3])])  # a prompt of one token


@pytest.mark.parametrize("tokens", [1, 19, 20, 21, 30, 31, 97, 200])
@pytest.mark.parametrize("window", [20, 7])
def test_windows_are_whole_cover_everything_and_overlap_by_half(tokens, window):
    spans = window_spans(tokens, window)
    assert spans[0][0] == 0
    assert spans[-1][1] == tokens
    assert {b - a for a, b in spans} == {min(window, tokens)}
    steps = [b[0] - a[0] for a, b in pairwise(spans)]
    assert all(0 < step <= max(1, window // 2) for step in steps)


def test_every_token_is_read_in_its_most_central_window():
    read = read_windows(Places(), block(97), window=20, specials=(2, 1), pool=mean_pooling)
    for token, place in enumerate(read.states[:, 0].tolist()):
        offsets = [token - a for a, b in read.spans.tolist() if a <= token < b]
        best = min(offsets, key=lambda offset: abs(offset - 9.5))
        assert abs(place - 2 - 9.5) == abs(best - 9.5)


def test_special_tokens_stand_around_every_window():
    model = Bag()
    text = block(30)
    read = read_windows(model, text, window=20, specials=(2, 1), pool=mean_pooling)
    assert model.rows == [(2 + read.spans.shape[0] - 2, 23)]
    edges = model.table(torch.tensor([1, 2, 3])).sum(0)
    first = model.table(text[2:22]).sum(0)
    torch.testing.assert_close(read.vectors[0], (edges + first) / 23)


def test_means_over_spans():
    states = torch.randn(23, 5, generator=generator(0, 0))
    spans = torch.tensor([[0, 7], [3, 23]])
    expected = torch.stack([states[:7].mean(0), states[3:].mean(0)])
    torch.testing.assert_close(_means(states, spans), expected)


def distillation(**settings):
    defaults = {"specials": (2, 1), "others": torch.empty(0, 13), "window": 20, "piece": 6}
    return Distillation(Bag().eval().requires_grad_(False), **{**defaults, **settings})


@pytest.mark.parametrize("part", ["tokens", "pieces"])
def test_a_student_that_is_its_teacher_loses_nothing(part):
    objective = distillation(weights=replace(NOTHING, **{part: 1.0}))
    loss = objective(Bag(), Batch.of([block(97)]), generator(0, 0))
    assert loss.item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("part", ["tokens", "passages", "document", "pieces"])
def test_every_part_of_the_loss_sees_a_student_that_strayed(part):
    objective = distillation(weights=replace(NOTHING, **{part: 1.0}))
    batch = Batch.of([block(97)])
    near = objective(Bag(shift=0.01), batch, generator(0, 0))
    far = objective(Bag(shift=0.2), batch, generator(0, 0))
    far.backward()
    assert near < far


def test_documents_that_are_alike_are_no_others():
    objective = distillation(weights=replace(NOTHING, finding=1.0))
    text = block(97)
    own = objective.document_vector(text)
    torch.testing.assert_close(own.norm(), torch.tensor(1.0))
    alike = replace(objective, others=own[None])
    drawn = Batch.of([text])
    assert alike(Bag(), drawn, generator(0, 0)).item() == 0.0
    unlike = replace(objective, others=-own[None])
    assert unlike(Bag(), drawn, generator(0, 0)).item() > 0.0


def test_the_loss_of_a_batch_is_the_mean_over_its_texts():
    objective = distillation(weights=replace(NOTHING, document=1.0))
    texts = [block(97), block(41)]
    student = Bag(shift=0.1)
    single = [objective(student, Batch.of([text]), generator(0, 0)) for text in texts]
    both = objective(student, Batch.of(texts), generator(0, 0))
    torch.testing.assert_close(both, torch.stack(single).mean())


def test_an_extended_model_agrees_with_its_teacher_on_one_window(tiny_bert):
    model = load_weights(find_checkpoint(tiny_bert))
    objective = Distillation(
        model, specials=(1, 1), others=torch.empty(0, 24), window=40,
        weights=replace(NOTHING, tokens=1.0, document=1.0),
    )  # fmt: skip
    text = torch.randint(5, 100, (42,), generator=generator(1, 1))
    loss = objective(model, Batch.of([text]), generator(0, 0))
    assert loss.item() == pytest.approx(0, abs=1e-5)
