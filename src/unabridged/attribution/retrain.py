"""Run a recorded training run again with other weights on its examples: the ground truth."""

from __future__ import annotations

import torch
from torch import Tensor

from unabridged.attribution.optimizers import Moments
from unabridged.attribution.packing import unpack
from unabridged.attribution.replay import Replay
from unabridged.attribution.steps import State

__all__ = ["retrain"]


def retrain(replay: Replay, weights: Tensor) -> Tensor:
    """Train from the recorded start with the loss of every example times its weight.

    Same order of batches, same random numbers, same rates; clipping acts anew.

    Args:
        replay: a recorded run.
        weights: (n,) one for each of `replay.ids`; zero leaves an example out.

    Returns:
        (P,) the parameters at the end.
    """
    if weights.shape != replay.ids.shape:
        raise ValueError(
            f"retrain: weights have shape {tuple(weights.shape)}; wanted one for each of the "
            f"{len(replay.ids)} training ids."
        )
    theta = replay.parameters(0)
    state = State(theta, Moments(torch.zeros_like(theta), torch.zeros_like(theta)), 0)
    for index in range(1, len(replay.recording.manifest.segments)):
        for record in unpack(replay.recording.load(index)):
            rows = [weights[replay.columns(ids)].to(theta.dtype) for ids in record.ids]
            _, state = replay.take(record, state, rows)
    return state.theta
