"""Receipts of an attention as a picture: errors head by head, and what they go with."""

from __future__ import annotations

from pathlib import Path

from unabridged._pictures import blank, save
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
    figure = blank(11, 4.2)
    from matplotlib.colors import LogNorm  # only once it is known to be there

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
    save(figure, path)
