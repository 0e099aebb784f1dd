"""Pictures without a screen: matplotlib where it is installed, files in any format it writes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from unabridged._errors import UnabridgedError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["blank", "save"]


def blank(width: float, height: float) -> Figure:
    """An empty figure, in inches.

    Raises:
        UnabridgedError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UnabridgedError(
            "plot: matplotlib is not installed; run `pip install unabridged[plots]`."
        ) from error
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure; its kind is what the name says, such as .svg or .png.

    Raises:
        UnabridgedError: a kind that matplotlib does not write, or a place where nothing can be.
    """
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise UnabridgedError(f"plot: {path} could not be written ({error}).") from error
