"""Documents of adaptation share out the change of a hit's score, to a small residual."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import BertConfig, BertModel

from unabridged.training import Batch, Settings
from unabridged.training.distillation import Distillation, Weights
from unabridged.training.recorded import explain_hit, record_adaptation
from unabridged.training.schedule import Schedule

NAMES = [f"document {number}" for number in range(4)]


def encoder():
    torch.manual_seed(3)
    shape = {"hidden_size": 12, "num_attention_heads": 2, "intermediate_size": 17}
    model = BertModel(
        BertConfig(vocab_size=53, num_hidden_layers=2, max_position_embeddings=64, **shape),
        add_pooling_layer=False,
    )
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1 and "word" not in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def block(number, tokens=29):
    drawn = torch.Generator().manual_seed(number)
    inner = torch.randint(5, 53, (tokens,), generator=drawn)
    return torch.cat([torch.tensor([1]), inner, torch.tensor([2])])


def documents(step):
    number = step % len(NAMES)
    return number, Batch.of([block(number)])


@pytest.fixture(scope="module")
def adapted(tmp_path_factory):
    import copy

    folder, model = tmp_path_factory.mktemp("adapted"), encoder()
    objective = Distillation(
        teacher=copy.deepcopy(model).requires_grad_(False),
        specials=(1, 1),
        others=torch.nn.functional.normalize(torch.randn(5, 12), dim=1),
        window=11,
        weights=Weights(),
        pieces=3,
        piece=7,
    )
    settings = Settings(steps=12, schedule=Schedule(peak=2e-3), seed=5)
    module, trained = record_adaptation(
        model, objective, documents, folder=folder, settings=settings
    )
    assert trained.steps == 12
    return module, folder


def test_score_is_shared_out_among_documents(adapted):
    module, folder = adapted
    question, hit = block(11, 5), block(1)
    found = explain_hit(module, folder, question, hit, names=NAMES)
    with torch.no_grad():
        states = [
            module.encoder(input_ids=ids[None]).last_hidden_state[0].mean(0)
            for ids in (question, hit)
        ]
    cosine = float(torch.nn.functional.cosine_similarity(*states, dim=0))
    assert math.isclose(found.score, cosine, abs_tol=1e-5)
    change = abs(found.score - found.before)
    assert change > 1e-3
    assert found.ledger.unexplained < 1e-5
    assert found.ledger.ids.tolist() == [0, 1, 2, 3]
    entries = found.as_json()["entries"]
    assert math.isclose(math.fsum(e["amount"] for e in entries), found.score, abs_tol=1e-12)
    assert {e["document"] for e in entries} >= set(NAMES)
    assert "document 1" in found.table()


def test_documents_that_never_trained_have_no_part(tmp_path):
    model = encoder()

    def fit(module, batch, drawn):
        return module(input_ids=batch.ids).last_hidden_state.square().mean()

    settings = Settings(steps=4, schedule=Schedule(peak=1e-3))
    module, _ = record_adaptation(
        model, fit, lambda step: (2, Batch.of([block(2)])), folder=tmp_path, settings=settings
    )
    found = explain_hit(module, tmp_path, block(11, 5), block(2), names=NAMES)
    assert found.ledger.ids.tolist() == [2]


def test_what_a_replay_cannot_follow_is_refused(tmp_path):
    for changed in ({"accumulate": 2}, {"precision": "bfloat16"}):
        with pytest.raises(ValueError, match="wanted 1 and float32"):
            record_adaptation(
                encoder(),
                lambda *_: torch.zeros(()),
                documents,
                folder=tmp_path,
                settings=Settings(steps=2, **changed),
            )
