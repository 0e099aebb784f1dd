"""The weights of a checkpoint, all of them, or a clear refusal."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModel, PreTrainedModel
from transformers.utils import logging as transformers_logging

from unabridged._errors import ModelError
from unabridged.encoder.checkpoint import Checkpoint
from unabridged.encoder.residual import GATE, restore_residual

__all__ = ["load_weights", "read_weights"]


def load_weights(checkpoint: Checkpoint) -> PreTrainedModel:
    """The encoder of a checkpoint, in float32 and evaluation mode, with every weight present.

    One that was saved as residual is residual again.

    Raises:
        ModelError: a damaged file, or weights that are missing and would be drawn at random.
    """
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    reports = logging.getLogger("transformers.modeling_utils")
    reports.addFilter(_is_news)
    try:
        model, report = AutoModel.from_pretrained(
            str(checkpoint.transformer),
            local_files_only=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(
            f"model: {checkpoint.transformer} does not load ({error}); "
            "the file may be damaged, so copy or download it again."
        ) from error
    finally:
        reports.removeFilter(_is_news)
        if bars:
            transformers_logging.enable_progress_bar()
    restore_residual(model, checkpoint.transformer)
    missing = [name for name in report["missing_keys"] if "pooler" not in name]
    if missing:
        raise ModelError(
            f"model: {checkpoint.transformer} lacks {len(missing)} weights, the first "
            f"{sorted(missing)[0]}; it is not a whole encoder, so copy or download it again."
        )
    encoder: PreTrainedModel = model.eval().requires_grad_(False)
    return encoder


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a report on loading names any weight but gates, which are put in afterwards."""
    rows = [line for line in record.getMessage().splitlines() if line.count("|") > 1]
    names = [row for row in rows if "Status" not in row]
    return not names or any(GATE not in name for name in names)


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Named tensors of a transformers folder as they are stored, heads included."""
    if (folder / "model.safetensors").exists():
        return dict(load_file(folder / "model.safetensors"))
    index = folder / "model.safetensors.index.json"
    if index.exists():
        shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        return {name: each for shard in shards for name, each in load_file(folder / shard).items()}
    stored = torch.load(folder / "pytorch_model.bin", map_location="cpu", weights_only=True)
    # Safetensors keeps no tensor twice, so tied ones part here; they are tied again when loaded.
    return {name: each.clone().contiguous() for name, each in stored.items()}
