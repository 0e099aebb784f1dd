"""Receipts of an attention as a picture: errors head by head, and what they go with."""

from __future__ import annotations

from pathlib import Path

from unabridged._errors import UnabridgedError
from unabridged.encoder.attention_receipts import Receipt

__all__ = ["draw"]


def draw(receipt: Receipt, path: Path) -> None:
    """Write a picture; its kind is what the name says, such as .svg or .png.

    Args:
        receipt: what was measured.
        path: of the file.

    Raises:
        UnabridgedError: matplotlib is not installed, or cannot write this.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.colors import LogNorm
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UnabridgedError(
            "plot: matplotlib is not installed; run `pip install unabridged[plots]`."
        ) from error
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    grid, cloud = figure.subplots(1, 2)
    errors = [[max(head.error, 1e-7) for head in layer.heads] for layer in receipt.layers]
    image = grid.imshow(errors, norm=LogNorm(vmin=1e-4, vmax=1), cmap="magma_r", aspect="auto")
    grid.set(title="error of each head", xlabel="head", ylabel="layer")
    figure.colorbar(image, ax=grid)
    for number, layer in enumerate(receipt.layers):
        spreads = [head.spread for head in layer.heads]
        colour = f"C{number % 10}"
        kept = [max(head.error, 1e-7) for head in layer.heads]
        lost = [head.error_of_mean for head in layer.heads]
        cloud.scatter(spreads, kept, s=14, color=colour, label=f"layer {number}")
        cloud.scatter(spreads, lost, s=14, facecolors="none", edgecolors=colour, alpha=0.4)
    title = "error by |q+k|²; hollow: with the mean value"
    cloud.set(title=title, xlabel="mean |q+k|²", yscale="log")
    cloud.legend(fontsize="x-small", ncols=2)
    figure.suptitle(f"{receipt.tokens:,} tokens, cosine {receipt.cosine:.5f}", fontsize="medium")
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise UnabridgedError(f"plot: {path} could not be written ({error}).") from error
