"""One function for every head of a text, heads side by side on the processor's cores.

A head's work is many small steps. Shared out within each step, cores would wait for each other at
the end of every one; shared out by heads, they never wait, and a core that other programs hold up
holds up nobody else.

Axes: H heads.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

__all__ = ["each_head"]

Result = TypeVar("Result")


def each_head(function: Callable[..., Result], *tensors: Tensor) -> list[Result]:
    """What the function makes of the first slices, the second slices, and so on.

    Heads come one after another where gradients are recorded, and where there is but one thread.

    >>> each_head(lambda x, y: float(x + y), torch.arange(3), torch.ones(3))
    [1.0, 2.0, 3.0]
    """
    heads = list(zip(*tensors, strict=True))
    cores = torch.get_num_threads()
    threads = min(len(heads), cores)
    graded, inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
    recorded = graded and any(tensor.requires_grad for tensor in tensors)
    if threads < 2 or recorded:
        return [function(*head) for head in heads]

    def one(head: tuple[Tensor, ...]) -> Result:
        with torch.inference_mode(inference), torch.set_grad_enabled(graded):
            return function(*head)

    try:
        with ThreadPoolExecutor(
            threads, "heads", initializer=torch.set_num_threads, initargs=(1,)
        ) as pool:
            return list(pool.map(one, heads))
    finally:
        torch.set_num_threads(cores)  # else threads that are born later would have one core
