"""Receipts of an attention as a table."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median
from typing import TYPE_CHECKING

from rich.table import Table

from unabridged.cli.console import results

if TYPE_CHECKING:
    from unabridged.attention.receipts import HeadReceipt
    from unabridged.encoder.attention_receipts import LayerReceipt, Receipt

__all__ = ["show"]


def show(receipt: Receipt) -> None:
    """Print what was measured, a line a layer, and the whole below."""
    console = results()
    console.print(_layers(receipt))
    console.print(_whole(receipt))


def _layers(receipt: Receipt) -> Table:
    heads = [head for layer in receipt.layers for head in layer.heads]
    table = Table(box=None, header_style="dim")
    table.add_column("Layer", justify="right")
    columns = ("Error, median head", "Worst head", "With mean value", "|q+k|²")
    for name in (*columns, *_further_names(heads), "Seconds", "Exact"):
        table.add_column(name, justify="right")
    for number, layer in enumerate(receipt.layers):
        table.add_row(str(number), *_cells(layer, heads))
    return table


def _further_names(heads: Iterable[HeadReceipt]) -> list[str]:
    """Columns that only some attentions fill."""
    heads = list(heads)
    names = {
        "Weights off, foretold": any(head.predicted is not None for head in heads),
        "Measured": any(head.measured is not None for head in heads),
        "Far mass": any(head.far is not None for head in heads),
        "Keys met": any(head.met is not None for head in heads),
        "Chosen": any(head.chosen is not None for head in heads),
    }
    return [name for name, is_there in names.items() if is_there]


def _cells(layer: LayerReceipt, every: list[HeadReceipt]) -> list[str]:
    heads = layer.heads
    worst = max(range(len(heads)), key=lambda head: heads[head].error)
    return [
        f"{median(head.error for head in heads):.4f}",
        f"{heads[worst].error:.4f} (head {worst})",
        f"{median(head.error_of_mean for head in heads):.4f}",
        f"{median(head.spread for head in heads):.1f}",
        *(_FURTHER[name](heads) for name in _further_names(every)),
        f"{layer.seconds:.3f}",
        f"{layer.seconds_exact:.3f}",
    ]


def _median_of(values: Iterable[float | None], form: str) -> str:
    known = [value for value in values if value is not None]
    return format(median(known), form) if known else ""


def _counted(heads: Iterable[HeadReceipt]) -> str:
    names = [head.chosen for head in heads if head.chosen is not None]
    return ", ".join(f"{names.count(name)} {name}" for name in sorted(set(names)))


_FURTHER = {
    "Weights off, foretold": lambda heads: _median_of((h.predicted for h in heads), ".3g"),
    "Measured": lambda heads: _median_of((h.measured for h in heads), ".3g"),
    "Far mass": lambda heads: _median_of((h.far for h in heads), ".1%"),
    "Keys met": lambda heads: _median_of((h.met for h in heads), ".1%"),
    "Chosen": _counted,
}


def _whole(receipt: Receipt) -> Table:
    table = Table(box=None, show_header=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    table.add_row("Attention", receipt.attention)
    table.add_row("Tokens", f"{receipt.tokens:,}, of which {receipt.rows:,} queries were compared")
    table.add_row("Vector", f"cosine {receipt.cosine:.6f} to that of exact attention")
    ratio = receipt.seconds_exact / receipt.seconds
    table.add_row(
        "Seconds", f"{receipt.seconds:.2f}, exact {receipt.seconds_exact:.2f} ({ratio:.2f} x)"
    )
    return table
