"""Set a training run back to the last checkpoint of its recording."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from unabridged.attribution.errors import RecordingError
from unabridged.attribution.optimizers import FIELDS
from unabridged.attribution.recording import Manifest, Recording

__all__ = ["refuse_other", "restore_model", "restore_optimizer", "restore_schedule"]


def refuse_other(recording: Recording, wanted: Manifest) -> None:
    """Raise unless the folder holds an unfinished recording of the same run."""
    found = recording.manifest
    if found.complete:
        raise RecordingError(
            f"Recorder: {recording.folder} holds a finished recording of {found.steps} steps; "
            "choose another folder, or delete that one."
        )
    for part in ("model", "optimizer", "groups", "loop", "every"):
        if getattr(found, part) != getattr(wanted, part):
            raise RecordingError(
                f"Recorder: {recording.folder} was recorded with another {part}; continue with "
                "the same, or choose another folder."
            )


@torch.no_grad()
def restore_model(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy the parameters of a checkpoint into the model."""
    parameters = dict(model.named_parameters())
    for key, tensor in tensors.items():
        if key.startswith("parameter/"):
            parameters[key.removeprefix("parameter/")].copy_(tensor)


def restore_optimizer(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    tensors: Mapping[str, Tensor],
    *,
    steps: int,
) -> None:
    """Give the optimiser its buffers back, as after `steps` steps."""
    names = {"buffer": "momentum_buffer"}
    if not isinstance(optimizer, torch.optim.SGD):
        names = {"buffer": "exp_avg", "square": "exp_avg_sq"}
    for name, parameter in model.named_parameters():
        kept = {
            attribute: tensors[f"{label}/{name}"].clone()
            for label, attribute in names.items()
            if f"{label}/{name}" in tensors
        }
        if "exp_avg" in kept:
            kept["step"] = torch.tensor(float(steps))
        if kept:
            optimizer.state[parameter] = kept


def restore_schedule(
    optimizer: torch.optim.Optimizer,
    scheduler: LRScheduler | None,
    state: dict[str, Any] | None,
    tensors: Mapping[str, Tensor],
) -> None:
    """Set the learning rates to those of the next step; of the last, where nothing schedules."""
    rates = tensors["rates"][-1][:, FIELDS.index("lr")].tolist()
    if scheduler is not None and state is not None:
        scheduler.load_state_dict({**scheduler.state_dict(), **state})
        rates = scheduler.get_last_lr()
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
