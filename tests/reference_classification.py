"""A tiny encoder with weights large enough that every part of it matters."""

from __future__ import annotations

import torch
from transformers import AutoModel

from tiny_models import CONFIGS, TOKENIZER_OF, TOKENIZERS
from unabridged.encoder import Chunks, LongEncoder


def encoder_of(family, root, *, passage=11):
    tokenizer = TOKENIZERS[TOKENIZER_OF.get(family, "wordpiece")]()
    torch.manual_seed(7)
    model = AutoModel.from_config(CONFIGS[family](len(tokenizer)))
    for name, parameter in model.named_parameters():
        if "bias" in name or parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    folder = root / family
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return LongEncoder(folder, reader=Chunks(passage=passage), dtype="float32")
