"""What cannot be shared out among single examples, found before training starts."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize

from unabridged.attribution.errors import RecordingError
from unabridged.attribution.recording import fingerprint

__all__ = [
    "refuse_autocast",
    "refuse_coupled_modules",
    "refuse_other_gradient",
    "refuse_other_model",
]

MISMATCH = 1e-2
"""Relative difference between recorded and replayed gradient norms above which a replay is refused;
rounding stays orders of magnitude below, another loss or other data far above."""


def refuse_coupled_modules(model: nn.Module) -> None:
    """Raise where a module of `model` ties the rows of a batch together or hides its parameters.

    Raises:
        ValueError: BatchNorm that takes batch statistics, embeddings that renormalise themselves
            or have sparse gradients, parametrised weights; with the reason and what to do.

    >>> refuse_coupled_modules(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.LayerNorm(2)))
    """
    for name, module in model.named_modules():
        reason = _reason(module)
        if reason:
            raise ValueError(
                f"Recorder: got {type(module).__name__} ({name or 'the model'}); {reason}"
            )


def _reason(module: nn.Module) -> str | None:
    if isinstance(module, _BatchNorm) and (module.training or not module.track_running_stats):
        return (
            "its output for one row depends on the other rows of the batch, so no step can be "
            "shared out among examples: call .eval() on it to freeze its statistics, "
            "or use LayerNorm or GroupNorm."
        )
    if isinstance(module, nn.Embedding | nn.EmbeddingBag):
        if module.max_norm is not None:
            return "max_norm rewrites weights outside the optimiser: set max_norm=None."
        if module.sparse:
            return "sparse gradients skip decay and momentum row by row: set sparse=False."
    if parametrize.is_parametrized(module):
        return "its weight is computed from others: remove the parametrisation before training."
    return None


def refuse_autocast() -> None:
    """Raise inside automatic mixed precision, whose gradients a replay cannot reproduce."""
    if torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"):
        raise ValueError(
            "Recorder: got a forward pass under autocast; wanted one precision throughout, "
            "because the replay recomputes every gradient: train without autocast."
        )


def refuse_other_gradient(step: int, recorded: float, replayed: Tensor) -> None:
    """Raise where the gradient norm of a step is not the recorded one.

    Raises:
        RecordingError: with both norms and what may differ.
    """
    mine = float(replayed)
    if abs(mine - recorded) > MISMATCH * recorded and max(mine, recorded) > 1e-9:
        raise RecordingError(
            f"Replay: at step {step} the recorded gradient has norm {recorded:.6g} and the "
            f"replayed one {mine:.6g}; wanted the same, so give the loss, data, weighting and "
            "clip_norm that the loop used."
        )


def refuse_other_model(model: nn.Module, names: list[str], recorded: dict[str, str]) -> None:
    """Raise where a model is not of the recorded make.

    Raises:
        RecordingError: naming what differs.
    """
    missing = set(names) - {name for name, _ in model.named_parameters()}
    now = {} if missing else fingerprint(model, names)
    for part, meaning in (
        ("architecture", "its modules, shapes or dtypes"),
        ("frozen", "values of parameters that were not trained"),
    ):
        if now.get(part) != recorded[part]:
            raise RecordingError(
                f"Replay: the model was changed since recording ({meaning} differ); "
                "give the model that was recorded."
            )
