"""Longer tables from a learned one, without training.

A learned table p (n, D) has one row a position. Row 0 is met by [CLS] alone and lies far from all
others, and the last two rows are met only by inputs that were cut there. So every scheme has two
forms:

- "cls-safe", the default: row 0 serves [CLS] and nothing else; the base is the B rows from row 1
  on, by default n - 3 of them; offsets are taken from row 1.
- "literal": as published; the base is the first B rows, by default all n, row 0 among them.

All are linear in p, so lengthening and fine-tuning commute, and gradients flow to p.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

__all__ = [
    "SCHEMES",
    "Form",
    "Scheme",
    "default_base",
    "grouped",
    "hierarchical",
    "interpolated",
    "interpolated_hierarchical",
    "recurrent",
]

Form = Literal["cls-safe", "literal"]
Scheme = Literal[
    "hierarchical", "recurrent", "grouped", "interpolated", "interpolated-hierarchical"
]


def hierarchical(
    table: Tensor,
    length: int,
    *,
    alpha: float = 0.4,
    base: int | None = None,
    form: Form = "cls-safe",
    levels: int = 2,
) -> Tensor:
    """Write every position as a number with digits in base B, and add up what its digits say.

    The post's q_{iB+j} = α u_i + (1-α) u_j with u = (p - α p_0)/(1-α) is, multiplied out,

        q = p_{j_0} + Σ_l β^l (p_{j_l} - p_a),    β = α/(1-α),    l = 1 … levels-1,

    with the digits j_l and the anchor a, the row of digit 0. The first n rows are the table's own,
    bit by bit, for every α. Positions differ pairwise unless β is 0 or 1; swapping the digits of
    two levels moves a position by |1-β| |p_i - p_j|. At most B^levels positions exist, and one
    more for [CLS] in the cls-safe form. α → 0 is `recurrent`.

    Args:
        table: (n, D), learned rows; RoBERTa's two reserved rows are not among them.
        length: rows wanted, at least n.
        alpha: in (0, 1) and not 0.5, where digits could be swapped unnoticed.
        base: B; None for n - 3 (cls-safe) or n (literal).
        form: which rows are the base, see the module; "literal" is the post.
        levels: digits of a position; level l weighs β^l, where the post has one l only.

    Returns:
        (length, D) in the dtype of the table.

    Raises:
        ValueError: a shape, α, base or levels out of range, or a length above the capacity.

    Reference: Su (2020), kexue.fm/archives/7947. We depart from it in the anchor: with p_0 as the
    anchor every token beyond the table gets -β p_0, the [CLS] row.

    >>> p = torch.tensor([[9.0], [1.0], [2.0], [4.0], [5.0], [6.0]])
    >>> hierarchical(p, 8, alpha=1 / 3, base=3).squeeze(1)
    tensor([9.0000, 1.0000, 2.0000, 4.0000, 5.0000, 6.0000, 4.5000, 2.5000])
    """
    first, base = _block(table, length, base, form)
    _check_alpha(alpha)
    if levels < 2:
        raise ValueError(f"hierarchical: levels is {levels}, wanted at least 2.")
    capacity = max(len(table), first + base**levels)
    if length > capacity:
        raise ValueError(
            f"hierarchical: length is {length:,}, and {levels} levels of base {base} hold "
            f"{capacity:,} positions; ask for fewer, or raise base or levels."
        )
    beta = alpha / (1 - alpha)
    exact = table.double()
    places = torch.arange(length - first, device=table.device)
    code = exact[first + places % base]
    for level in range(1, levels):
        digits = (places // base**level) % base
        code = code + beta**level * (exact[first + digits] - exact[first])
    return _after(table, first, code)


def recurrent(
    table: Tensor, length: int, *, base: int | None = None, form: Form = "cls-safe"
) -> Tensor:
    """Start again after every B positions: row a + (m - a) mod B beyond the table.

    Positions B apart are the same; Longformer (Beltagy et al. 2020) starts its training from this.

    Args:
        table: (n, D), learned rows.
        length: rows wanted, at least n.
        base: B; None for n - 3 (cls-safe) or n (literal).
        form: which rows are the base, see the module.

    Returns:
        (length, D); the first n rows are the table's own.

    Raises:
        ValueError: a shape, base or length out of range.

    >>> recurrent(torch.tensor([[9.0], [1.0], [2.0]]), 6, base=2).squeeze(1)
    tensor([9., 1., 2., 1., 2., 1.])
    """
    first, base = _block(table, length, base, form)
    rows = first + torch.arange(length - first, device=table.device) % base
    return _after(table, first, table[rows])


def grouped(
    table: Tensor, length: int, *, base: int | None = None, form: Form = "cls-safe"
) -> Tensor:
    """Let s neighbours share a row, s the least that makes B rows enough.

    The rows of short inputs change too, unless length is n. GP of LongEmbed (Zhu et al. 2024).

    Args:
        table: (n, D), learned rows.
        length: rows wanted, at least n.
        base: B; None for n - 3 (cls-safe) or n (literal).
        form: which rows are the base, see the module.

    Returns:
        (length, D), made of rows of the table alone.

    Raises:
        ValueError: a shape, base or length out of range.

    >>> grouped(torch.tensor([[9.0], [1.0], [2.0]]), 5, base=2).squeeze(1)
    tensor([9., 1., 1., 2., 2.])
    """
    first, base = _block(table, length, base, form)
    if length == len(table):
        return table.clone()
    size = -(-(length - first) // base)
    rows = first + torch.arange(length - first, device=table.device) // size
    return torch.cat([table[:first], table[rows]])


def interpolated(
    table: Tensor, length: int, *, base: int | None = None, form: Form = "cls-safe"
) -> Tensor:
    """Stretch the base evenly over all positions, linearly between its rows.

    The rows of short inputs change too, unless length is n. PI of Chen et al. (2023), on a table;
    here the ends of the base meet the ends of the new table.

    Args:
        table: (n, D), learned rows.
        length: rows wanted, at least n.
        base: B; None for n - 3 (cls-safe) or n (literal).
        form: which rows are the base, see the module.

    Returns:
        (length, D), convex combinations of neighbouring rows.

    Raises:
        ValueError: a shape, base or length out of range.

    >>> interpolated(torch.tensor([[9.0], [1.0], [2.0]]), 6, base=2).squeeze(1)
    tensor([9.0000, 1.0000, 1.2500, 1.5000, 1.7500, 2.0000])
    """
    first, base = _block(table, length, base, form)
    if length == len(table):
        return table.clone()
    return torch.cat([table[:first], _stretch(table[first : first + base], length - first)])


def interpolated_hierarchical(
    table: Tensor,
    length: int,
    *,
    alpha: float = 0.4,
    base: int | None = None,
    form: Form = "cls-safe",
    factor: int = 4,
) -> Tensor:
    """Interpolate the base to `factor` times its rows, and go on hierarchically from there.

    The rows of short inputs change too, unless length is n. A shorter length is interpolated only
    as far as it needs.

    Args:
        table: (n, D), learned rows.
        length: rows wanted, at least n.
        alpha: as in `hierarchical`.
        base: B; None for n - 3 (cls-safe) or n (literal).
        form: which rows are the base, see the module.
        factor: how far the base is stretched at most.

    Returns:
        (length, D) in the dtype of the table.

    Raises:
        ValueError: as `hierarchical`, or a factor below 1.
    """
    if factor < 1:
        raise ValueError(f"interpolated_hierarchical: factor is {factor}, wanted at least 1.")
    first, base = _block(table, length, base, form)
    _check_alpha(alpha)
    if length <= max(len(table), first + factor * base):
        return interpolated(table, length, base=base, form=form)
    inner = _stretch(table[first : first + base], factor * base)
    stretched = torch.cat([table[:first], inner])
    return hierarchical(stretched, length, alpha=alpha, base=factor * base, form=form)


SCHEMES: dict[Scheme, Callable[..., Tensor]] = {
    "hierarchical": hierarchical,
    "recurrent": recurrent,
    "grouped": grouped,
    "interpolated": interpolated,
    "interpolated-hierarchical": interpolated_hierarchical,
}
"""Every scheme by name; all take (table, length, *, base, form), the hierarchical ones alpha."""


def default_base(rows: int, form: Form = "cls-safe") -> int:
    """B where nothing else is asked for, of a table of so many rows.

    >>> default_base(512), default_base(512, "literal")
    (509, 512)
    """
    return rows - 3 if form == "cls-safe" else rows


def _after(table: Tensor, first: int, code: Tensor) -> Tensor:
    """The table as it is, then what stands beyond it in a code that begins at row `first`."""
    return torch.cat([table, code[len(table) - first :].to(table.dtype)])


def _stretch(rows: Tensor, count: int) -> Tensor:
    """`count` rows from the first to the last of (B, D), evenly spaced."""
    exact = rows.double()
    places = torch.linspace(0, len(rows) - 1, count, dtype=torch.float64, device=rows.device)
    low = places.long().clamp(max=len(rows) - 2)
    return torch.lerp(exact[low], exact[low + 1], (places - low)[:, None]).to(rows.dtype)


def _block(table: Tensor, length: int, base: int | None, form: Form) -> tuple[int, int]:
    """First row of the base, and its number of rows."""
    if form not in get_args(Form):
        raise ValueError(f"form: got {form!r}, wanted one of {', '.join(get_args(Form))}.")
    if table.ndim != 2 or not table.is_floating_point() or len(table) < 3:
        raise ValueError(
            f"table: has shape {tuple(table.shape)} and {table.dtype}, wanted at least 3 rows of "
            "(n, D) in floating point; pass the weight of the position embedding."
        )
    if length < len(table):
        raise ValueError(
            f"length: is {length:,}, and the table has {len(table):,} positions already; "
            "wanted at least as many."
        )
    first, room = (1, len(table) - 1) if form == "cls-safe" else (0, len(table))
    base = default_base(len(table), form) if base is None else base
    if not 2 <= base <= room:
        raise ValueError(
            f"base: is {base}, and a table of {len(table)} rows in the form {form!r} has room "
            f"for 2 to {room}."
        )
    return first, base


def _check_alpha(alpha: float) -> None:
    if not 0 < alpha < 1 or alpha == 0.5:
        raise ValueError(
            f"alpha: is {alpha}, wanted one between 0 and 1 that is not 0.5, where positions "
            "(i, j) and (j, i) would be one; the usual is 0.4."
        )
