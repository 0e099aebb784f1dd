"""Labels are learned, both accounts of a label sum to its lead, and what cannot be used is said."""

from __future__ import annotations

import pytest
import torch

from reference_collection import WordEmbedder
from unabridged.attribution import RecordingError
from unabridged.classification import (
    Classifier,
    ClassifierError,
    doubtful,
    read_labels,
    train,
)

WORDS = {"law": "court judge appeal statute", "sea": "tide harbour vessel anchor"}


def test_new_documents_get_the_label_of_their_kind(trained):
    made, reader = trained.classifier, WordEmbedder()
    for label, words in WORDS.items():
        reading = reader.read(f"some words and {words}")
        assert made.predict(made.standardised(reading.vectors)).label == label


def test_the_wrong_label_is_the_most_doubtful(trained):
    first = doubtful(trained.classifier, limit=3)[0]
    assert (first.document, first.label, first.instead) == ("law2.txt", "sea", "law")
    assert first.support < 0


def test_training_twice_gives_the_same_bits(folder, trained):
    labels = read_labels(folder / "labels.csv")
    again = train(folder, labels, WordEmbedder(), into=folder / "again")
    assert torch.equal(again.classifier.head().weight, trained.classifier.head().weight)


def test_unreadable_documents_are_named_and_the_others_used(folder):
    labels = {**read_labels(folder / "labels.csv"), "gone.txt": "law"}
    result = train(folder, labels, WordEmbedder(), into=folder / "classifier")
    assert [name for name, _ in result.failed] == ["gone.txt"]
    assert len(result.classifier.documents) == 20


def test_another_encoder_is_refused(trained):
    with pytest.raises(ClassifierError, match="passage differ"):
        trained.classifier.check_encoder(WordEmbedder(passage=5).fingerprint)


def test_damaged_recording_is_named(trained):
    file = sorted((trained.classifier.folder / "run").glob("*.safetensors"))[-1]
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(RecordingError, match=file.name):
        Classifier.open(trained.classifier.folder).head()


def test_folder_without_classifier_says_how_to_train_one(tmp_path):
    with pytest.raises(ClassifierError, match="classify train"):
        Classifier.open(tmp_path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a.txt,law\nb.txt", "line 2"),
        ("a.txt,law\na.txt,sea", "one label"),
        ("a.txt,law\nb.txt,law", "at least 2"),
        ("a.txt,", "line 1"),
    ],
)
def test_bad_labels_are_refused_with_the_line(text, reason, tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text(text)
    with pytest.raises(ClassifierError, match=reason):
        read_labels(path)


def test_semicolons_tabs_and_headings_are_understood(tmp_path):
    path = tmp_path / "labels.csv"
    for separator in ",;\t":
        rows = (("Document", "Label"), ("a b.txt", "law"), ("c.txt", "sea"))
        path.write_text("\n".join(separator.join(row) for row in rows))
        assert read_labels(path) == {"a b.txt": "law", "c.txt": "sea"}
