"""What a model says of a long text that it may read in short windows only.

document   [ 0 .......................................................... T )
windows    [----------------)
                   [----------------)
                           [----------------)          half a window apart
each token's state is taken from the window whose middle is nearest
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unabridged._reading import Span

__all__ = ["Windowed", "read_windows", "window_spans"]

_ROWS = 8192
"""Tokens that pass the model at once; bounds memory, changes nothing."""


@dataclass(frozen=True)
class Windowed:
    """A text as a model read it in overlapping windows.

    Attributes:
        spans: (P, 2) token spans of the windows, special tokens not counted.
        vectors: (P, D) what `pool` made of each window's states.
        states: (T, D) of every token, from the window in which it stands most centrally.
    """

    spans: Tensor
    vectors: Tensor
    states: Tensor


def window_spans(tokens: int, window: int) -> list[Span]:
    """Windows half a window apart or a little closer, so that all of them are whole.

    >>> window_spans(25, 10)
    [(0, 10), (5, 15), (10, 20), (15, 25)]
    >>> window_spans(7, 10)
    [(0, 7)]
    """
    if tokens <= window:
        return [(0, tokens)]
    steps = -(-(tokens - window) // max(1, window // 2))
    return [(s, s + window) for s in (i * (tokens - window) // steps for i in range(steps + 1))]


@torch.no_grad()
def read_windows(
    model: nn.Module,
    block: Tensor,
    *,
    window: int,
    specials: Span,
    pool: Callable[[Tensor], Tensor],
) -> Windowed:
    """Read one text in windows, with its special tokens around every one of them.

    Args:
        model: of transformers; in evaluation mode, where its states shall be the ones in use.
        block: (T + a + b,) token ids, special tokens included.
        window: tokens of a window, special ones not counted.
        specials: (a, b), how many special tokens stand before and after the text.
        pool: states of windows (P, W + a + b, D) to their vectors (P, D').
    """
    before, after = block[: specials[0]], block[len(block) - specials[1] :]
    text = block[specials[0] : len(block) - specials[1]]
    spans = torch.tensor(window_spans(len(text), window))  # (P, 2)
    blocks = torch.stack([torch.cat([before, text[a:b], after]) for a, b in spans.tolist()])
    at_once = max(1, _ROWS // blocks.shape[1])
    states = torch.cat(
        [model(input_ids=part).last_hidden_state.float() for part in torch.split(blocks, at_once)]
    )  # (P, W + a + b, D)
    places = torch.arange(len(text))
    middles = spans.float().mean(1) - 0.5
    own = (places[:, None] - middles[None, :]).abs().argmin(1)  # (T,)
    central = states[own, places - spans[own, 0] + specials[0]]
    return Windowed(spans, pool(states), central)
