"""Every account of a label sums to its lead, and copies among the training documents are named."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch

from reference_collection import WordEmbedder
from unabridged.attribution import adjoint
from unabridged.classification import (
    ClassifierError,
    explain,
    read_labels,
    token_account,
    train,
    words_of,
)
from unabridged.encoder import LongEncoder, TokenScores, token_scores

QUESTION = "a court in the harbour " * 11 + "judge and statute"


@pytest.mark.parametrize("by", ["contribution", "alike", "removal"])
def test_both_accounts_sum_to_the_lead(trained, by):
    found = explain(trained.classifier, WordEmbedder().read(QUESTION), count=3, by=by)
    assert len(found.passages) > 2
    total = math.fsum([found.bias, *(passage.amount for passage in found.passages)])
    assert math.isclose(total, found.lead, abs_tol=1e-9)
    assert math.isclose(math.fsum(line.amount for line in found.lines), found.lead, abs_tol=1e-6)
    assert abs(found.residual) < 1e-6 * max(1.0, abs(found.lead))
    shown = [line.amount for line in found.lines[1:4]]
    assert shown == [one.amount for one in found.taught]


@pytest.mark.parametrize("by", ["contribution", "alike", "removal"])
def test_a_copy_of_any_training_document_names_it_first(folder, trained, by):
    for document in trained.classifier.documents[::4]:
        reading = WordEmbedder().read((folder / document).read_text())
        first = explain(trained.classifier, reading, count=1, by=by).taught[0]
        assert first.twin
        assert first.document == document


def test_a_copy_of_a_wrongly_labelled_document_has_the_largest_share(folder, trained):
    reading = WordEmbedder().read((folder / "law2.txt").read_text())
    found = explain(trained.classifier, reading, count=20)
    first = found.taught[0]
    assert (first.document, first.label) == ("law2.txt", "sea")
    assert first.amount > 0 if found.prediction.label == "sea" else first.amount < 0
    assert all(abs(first.amount) > abs(one.amount) for one in found.taught[1:])


def test_without_a_copy_the_most_alike_stands_first_and_nothing_is_marked(trained):
    found = explain(trained.classifier, WordEmbedder().read(QUESTION), count=20)
    assert not any(one.twin for one in found.taught)
    assert found.taught[0].alike == max(one.alike for one in found.taught)
    amounts = [abs(one.amount) for one in found.taught[1:]]
    assert amounts == sorted(amounts, reverse=True)


def test_order_by_removal_is_that_of_the_adjoint(trained):
    made, reading = trained.classifier, WordEmbedder().read(QUESTION)
    found = explain(made, reading, count=20, by="removal")
    one, other = (made.classes.index(name) for name in (found.prediction.label, found.against))
    row = made.standardised(reading.vectors).double().mean(0)[None]
    effects = adjoint(
        made.replay(), row, torch.tensor([one]), target=lambda o, _: o[:, one] - o[:, other]
    )
    for shown in found.taught[:3]:
        number = torch.tensor([made.documents.index(shown.document)])
        assert math.isclose(shown.without, float(effects.predict_without(number)), abs_tol=1e-9)
    moves = [abs(shown.without - found.lead) for shown in found.taught[1:]]
    assert moves == sorted(moves, reverse=True)


def test_classes_that_cannot_be_compared_with_are_refused(trained):
    reading = WordEmbedder().read("a judge in court")
    for name in ("law", "space"):
        with pytest.raises(ClassifierError, match="wanted one of sea"):
            explain(trained.classifier, reading, against=name)
    with pytest.raises(ValueError, match="wanted one of contribution"):
        explain(trained.classifier, reading, by="size")


def test_tokens_sum_to_the_lead_whatever_the_scores(trained):
    """A scorer that hands out any split of each passage's product, with two special tokens."""
    reading = WordEmbedder().read(QUESTION)
    generator = np.random.default_rng(5)

    def scorer(direction):
        found = []
        for vector, (start, end) in zip(reading.vectors, reading.passage_tokens, strict=True):
            own = generator.standard_normal(end - start)
            found.append(TokenScores(own, float(vector @ direction - own.sum()), end - start + 2))
        return found

    why = explain(trained.classifier, reading)
    account = token_account(trained.classifier, why, reading, scorer)
    assert len(account.tokens) == len(reading.token_ids)
    amounts = [token.amount for token in account.tokens]
    total = math.fsum([account.bias, account.special, account.rounding, *amounts])
    assert math.isclose(total, why.lead, abs_tol=1e-9)
    assert abs(account.rounding) < 1e-5
    words = words_of(account.tokens, QUESTION)
    assert math.isclose(sum(word.amount for word in words), math.fsum(amounts), abs_tol=1e-9)


def test_words_of_a_real_model_carry_the_label_that_they_stand_for(folder):
    encoder = LongEncoder(dtype="float32")
    made = train(folder, read_labels(folder / "labels.csv"), encoder, into=folder / "c").classifier
    text = "The judge read the appeal. " * 30 + "An umbrella was left behind in the corridor."
    reading = encoder.read(text)
    why = explain(made, reading, count=1)
    account = token_account(made, why, reading, lambda w: token_scores(encoder, text, w))
    assert why.prediction.label == "law"
    assert abs(account.rounding) < 1e-4 * abs(why.lead)
    words = Counter()
    for word in words_of(account.tokens, text):
        words[text[slice(*word.chars)]] += word.amount
    assert words["judge"] > words["umbrella"]
