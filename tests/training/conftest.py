"""Tiny models and long documents to adapt them on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoModelForMaskedLM

from tiny_models import CONFIGS, TEXT, TOKENIZER_OF, TOKENIZERS


def _save_tiny(folder, family="bert", kind=AutoModel):
    tokenizer = TOKENIZERS[TOKENIZER_OF.get(family, "wordpiece")]()
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = kind.from_config(CONFIGS[family](len(tokenizer)))
        for name, parameter in model.named_parameters():
            if "bias" in name or parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory):
    return _save_tiny(tmp_path_factory.mktemp("models") / "bert")


@pytest.fixture(scope="session")
def tiny_masked(tmp_path_factory):
    return _save_tiny(tmp_path_factory.mktemp("models") / "masked", kind=AutoModelForMaskedLM)


@pytest.fixture(scope="session")
def long_documents(tmp_path_factory):
    """Eleven documents of about 150 to 250 tokens, one short, one that cannot be read."""
    folder = tmp_path_factory.mktemp("documents")
    words = TEXT.split()
    rng = np.random.default_rng(3)
    for number in range(11):
        text = " ".join(rng.choice(words, 67 + 3 * number))
        (folder / f"long-{number}.txt").write_text(text, encoding="utf-8")
    (folder / "short.txt").write_text("The committee read.", encoding="utf-8")
    (folder / "broken.pdf").write_bytes(b"%PDF-1.4 nothing of the kind")
    return folder


@pytest.fixture(scope="session")
def save_tiny():
    """Save a tiny random model of a family in a folder."""
    return _save_tiny
