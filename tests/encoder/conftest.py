from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModel

from tiny_models import CONFIGS, TOKENIZER_OF, TOKENIZERS


@pytest.fixture(scope="session")
def model_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One folder a family, as transformers saves it."""
    root = tmp_path_factory.mktemp("models")
    folders = {}
    for family, config in CONFIGS.items():
        tokenizer = TOKENIZERS[TOKENIZER_OF.get(family, "wordpiece")]()
        torch.manual_seed(7)
        model = AutoModel.from_config(config(len(tokenizer)))
        # Fresh weights are so small that attention is flat and every mistake in it invisible.
        for name, parameter in model.named_parameters():
            if "bias" in name or parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.3)
        folders[family] = root / family
        model.save_pretrained(folders[family])
        tokenizer.save_pretrained(folders[family])
    return folders
