"""How the learning rate rises and falls."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

__all__ = ["Decay", "Schedule"]

Decay = Literal["linear", "cosine", "constant"]


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up to a peak, then a decay to zero.

    Attributes:
        peak: the highest learning rate.
        warmup: share of the run in which it is climbed, in [0, 1).
        decay: the way down from there to the end; "constant" stays at the peak.

    >>> schedule = Schedule(peak=1.0, warmup=0.2)
    >>> [round(schedule(share), 2) for share in (0.0, 0.1, 0.2, 0.6, 1.0)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """

    peak: float = 5e-5
    warmup: float = 0.06
    decay: Decay = "linear"

    def __post_init__(self) -> None:
        if self.peak <= 0 or not 0 <= self.warmup < 1:
            raise ValueError(
                f"Schedule: peak is {self.peak} and warmup {self.warmup}; wanted a positive rate "
                "and a share in [0, 1)."
            )
        if self.decay not in ("linear", "cosine", "constant"):
            raise ValueError(
                f"Schedule: decay is {self.decay!r}; wanted 'linear', 'cosine' or 'constant'."
            )

    def __call__(self, share: float) -> float:
        """The rate when `share` of the run, in [0, 1], is over."""
        if share < self.warmup:
            return self.peak * share / self.warmup
        way_down = min(1.0, (share - self.warmup) / (1 - self.warmup))
        if self.decay == "linear":
            return self.peak * (1 - way_down)
        if self.decay == "cosine":
            return self.peak * (1 + math.cos(math.pi * way_down)) / 2
        return self.peak
