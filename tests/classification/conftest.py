"""Labelled documents of two kinds, and a head trained on them."""

from __future__ import annotations

import pytest

from reference_collection import WordEmbedder
from unabridged.classification import read_labels, train

WORDS = {"law": "court judge appeal statute", "sea": "tide harbour vessel anchor"}


@pytest.fixture
def folder(tmp_path):
    """Twenty documents of two kinds, in a folder with their labels; one label is wrong."""
    lines = ["document,label"]
    for label, words in WORDS.items():
        for number in range(10):
            name = f"{label}{number}.txt"
            (tmp_path / name).write_text(f"{words} item{number} " * (number % 3 + 1))
            lines.append(f"{name},{label}")
    lines[3] = "law2.txt,sea"
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    return tmp_path


@pytest.fixture
def trained(folder):
    labels = read_labels(folder / "labels.csv")
    return train(folder, labels, WordEmbedder(), into=folder / "classifier")
