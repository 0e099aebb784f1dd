"""Random states that are functions of where they are used, so that none has to be saved."""

from __future__ import annotations

import numpy as np
import torch

__all__ = ["generator", "seed_of"]


def seed_of(seed: int, *place: int) -> int:
    """A seed for one place of a run, such as a step; unrelated to that of any other place.

    >>> seed_of(0, 1) == seed_of(0, 1), seed_of(0, 1) == seed_of(1, 0)
    (True, False)
    """
    state = np.random.SeedSequence([seed, *place]).generate_state(1, np.uint64)
    return int(state[0] >> 1)


def generator(seed: int, *place: int) -> torch.Generator:
    """A generator for one place of a run.

    >>> torch.randint(9, (3,), generator=generator(0, 7)).equal(
    ...     torch.randint(9, (3,), generator=generator(0, 7)))
    True
    """
    return torch.Generator().manual_seed(seed_of(seed, *place))
