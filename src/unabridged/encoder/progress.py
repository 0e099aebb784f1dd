"""A progress bar with an estimate of the time left, only where somebody watches and has to wait."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress

__all__ = ["progress"]

Item = TypeVar("Item")
_PATIENCE = 2.0  # seconds before a bar appears


def progress(
    items: Iterable[Item], weights: Sequence[int], label: str, show: bool | None
) -> Iterator[Item]:
    """Pass items on, drawing on stderr how far they are.

    Args:
        items: what is passed on.
        weights: work of each item, in any unit.
        label: what is being done.
        show: True at once, False never, None on a terminal after two seconds.
    """
    wanted = sys.stderr.isatty() if show is None else show
    if not wanted:
        yield from items
        return
    patience = time.monotonic() + (0 if show else _PATIENCE)
    with Progress(console=Console(stderr=True), transient=True, disable=False) as bar:
        task = bar.add_task(label, total=sum(weights), visible=False)
        for item, weight in zip(items, weights, strict=True):
            bar.update(task, advance=weight, visible=time.monotonic() >= patience)
            yield item
