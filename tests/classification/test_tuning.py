"""Layers and head trained together: the same model in two parts, and every account adds up."""

from __future__ import annotations

import math

import pytest
import torch

from reference_classification import encoder_of
from unabridged._errors import ModelError
from unabridged.attribution import Replay, adjoint, cross_entropy_of, logit, path_kernel, retrain
from unabridged.classification import (
    ClassifierError,
    Tuning,
    doubtful,
    explain,
    open_classifier,
    token_account,
    tune,
)
from unabridged.encoder import LongEncoder, Windows
from unabridged.encoder.trainable import split_encoder

TEXTS = {
    "law": "The committee read the whole report. Nobody skipped the tables! ",
    "sea": "Ein Absatz auf Deutsch, naïve café. A family of four. ",
}
SMALL = Tuning(steps=24, epochs=1)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return encoder_of("bert", tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory, encoder):
    folder = tmp_path_factory.mktemp("documents")
    labels = {}
    for label, text in TEXTS.items():
        for number in range(5):
            name = f"{label}{number}.txt"
            (folder / name).write_text(text * (number + 1) + f"page {number}")
            labels[name] = label
    return tune(folder, labels, encoder, into=folder / "classifier", tuning=SMALL)


@pytest.mark.parametrize("family", ["bert", "mpnet", "distilbert"])
@pytest.mark.parametrize("layers", [1, 3])
def test_bottom_and_top_give_the_vectors_of_the_encoder(family, layers, tmp_path):
    encoder = encoder_of(family, tmp_path)
    bottom, top = split_encoder(encoder, layers=layers)
    text = TEXTS["law"] * 3
    reading, states = next(bottom.read_many([text]))
    vectors = top(states.states[None], states.rows[None])[0]
    wanted = torch.from_numpy(encoder.read(text).vectors)
    torch.testing.assert_close(vectors, wanted, rtol=1e-4, atol=1e-5)
    assert reading.passage_chars.tolist() == encoder.read(text).passage_chars.tolist()


def test_padding_changes_no_vector(encoder):
    bottom, top = split_encoder(encoder)
    _, states = next(bottom.read_many([TEXTS["sea"] * 2]))
    alone = top(states.states[None], states.rows[None])[0]
    more = torch.nn.functional.pad(states.states, (0, 0, 0, 0, 0, 3))
    rows = torch.nn.functional.pad(states.rows, (0, 3))
    padded = top(more[None], rows[None])[0]
    torch.testing.assert_close(padded[: len(alone)], alone)
    assert not padded[len(alone) :].any()


def test_new_documents_get_their_label_and_training_moved_the_layer(trained):
    made = trained.classifier
    assert trained.accuracy >= 0.9
    for label, text in TEXTS.items():
        question = made.ask("page 9 " + text * 4)
        assert made.predict(made.standardised(question.reading.vectors)).label == label
    _, before = split_encoder(made.encoder)
    moved = made.model.top.blocks[0].up.weight - before.blocks[0].up.weight
    assert float(moved.detach().abs().max()) > 1e-3


def test_ledger_of_layers_and_head_sums_and_its_residual_is_small(trained):
    made = trained.classifier
    question = made.ask(TEXTS["law"] * 2)
    why = explain(made, question, count=4)
    passages = math.fsum([why.bias, *(passage.amount for passage in why.passages)])
    lines = math.fsum(line.amount for line in why.lines)
    assert math.isclose(passages, why.lead, rel_tol=1e-5)
    assert math.isclose(lines, why.lead, rel_tol=1e-5)
    change = abs(why.lead - why.lines[0].amount)
    assert abs(why.residual) < 1e-6 * change
    account = token_account(made, why, question.reading, lambda w: made.token_scores(question, w))
    total = math.fsum([why.bias, account.special, *(t.amount for t in account.tokens)])
    assert math.isclose(total, why.lead, rel_tol=1e-4)


def test_a_copy_of_a_training_document_is_named_first(trained):
    made = trained.classifier
    question = made.ask(TEXTS["sea"] * 3 + "page 2")
    first = explain(made, question, count=1).taught[0]
    assert (first.document, first.twin) == ("sea2.txt", True)


def test_adjoint_through_attention_is_the_derivative_of_retraining(trained):
    made = trained.classifier
    question, label = made.ask(TEXTS["law"] * 2), torch.tensor([1])
    replay = made.replay()
    effects = adjoint(replay, question.inputs, label, target=logit).values[0]
    step = 1e-4
    for place in (0, 7):
        ends = []
        for sign in (1, -1):
            weights = torch.ones(len(replay.ids), dtype=torch.float64)
            weights[place] += sign * step
            end = retrain(replay, weights)
            inputs = {n: t.double() if t.is_floating_point() else t
                      for n, t in question.inputs.items()}  # fmt: skip
            ends.append(float(replay.values(end, inputs, label, logit)))
        slope = (ends[0] - ends[1]) / (2 * step)
        assert math.isclose(float(effects[place]), slope, rel_tol=1e-4, abs_tol=1e-8)


def test_passes_of_a_step_change_nothing_but_rounding(trained, encoder):
    made, folder = trained.classifier, trained.classifier.folder.parent
    labels = {n: made.classes[int(y)] for n, y in zip(made.documents, made.labels, strict=True)}
    tokens = max(encoder.count_tokens((folder / name).read_text()) for name in labels)
    _, top = split_encoder(encoder)
    tight = Tuning(**{**vars(SMALL), "budget": 8 * (tokens + 1) * top.numbers_a_row})
    parted = tune(folder, labels, encoder, into=folder / "parted", tuning=tight).classifier
    whole, parts = made.replay(), parted.replay()
    torch.testing.assert_close(whole.parameters(-1), parts.parameters(-1), rtol=1e-3, atol=1e-4)
    question = parted.ask(TEXTS["law"])
    ledger = path_kernel(parts, question.inputs, torch.tensor([0]), target=logit)
    assert ledger.unexplained < 1e-6


def test_too_long_a_document_is_refused_by_name(trained, encoder):
    folder = trained.classifier.folder.parent
    labels = {"law4.txt": "law", "sea0.txt": "sea"}
    with pytest.raises(ClassifierError, match=r"law4\.txt has .* raise the budget"):
        tune(folder, labels, encoder, into=folder / "x", tuning=Tuning(budget=100_000))
    assert not (folder / "x").exists()


def test_opened_again_it_answers_alike_but_only_with_its_encoder(trained, tmp_path):
    made = open_classifier(trained.classifier.folder)
    with pytest.raises(ClassifierError, match="with_encoder"):
        made.ask("a page")
    again = made.with_encoder(trained.classifier.encoder)
    assert torch.equal(again.head().weight, trained.classifier.head().weight)
    with pytest.raises(ClassifierError, match="another encoder"):
        made.with_encoder(encoder_of("bert", tmp_path, passage=9))


def test_suspects_are_refused_with_what_to_do(trained):
    with pytest.raises(ClassifierError, match="train a head"):
        doubtful(trained.classifier)


def test_encoders_that_cannot_be_split_are_refused(encoder):
    windows = LongEncoder(encoder.checkpoint.folder, reader=Windows(11, 3), dtype="float32")
    with pytest.raises(ModelError, match="independent chunks"):
        split_encoder(windows)
    with pytest.raises(ValueError, match="wanted 1 to 3"):
        split_encoder(encoder, layers=4)


def test_the_state_data_is_what_was_recorded(trained):
    made = trained.classifier
    replay = Replay(
        split_and_headed(made), made.folder / "run", loss=cross_entropy_of, data=made.states
    )
    assert replay.ids.tolist() == list(range(10))


def split_and_headed(made):
    from unabridged.classification.tuned import LayersAndHead

    _, top = split_encoder(made.encoder)
    return LayersAndHead(top, len(made.classes), made.centre, made.scale)
