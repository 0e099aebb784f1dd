"""The weights of a checkpoint, all of them, or a clear refusal."""

from __future__ import annotations

import torch
from safetensors import SafetensorError
from transformers import AutoModel, PreTrainedModel
from transformers.utils import logging as transformers_logging

from unabridged._errors import ModelError
from unabridged.encoder.checkpoint import Checkpoint
from unabridged.encoder.residual import restore_residual

__all__ = ["load_weights"]


def load_weights(checkpoint: Checkpoint) -> PreTrainedModel:
    """The encoder of a checkpoint, in float32 and evaluation mode, with every weight present.

    One that was saved as residual is residual again.

    Raises:
        ModelError: a damaged file, or weights that are missing and would be drawn at random.
    """
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
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
