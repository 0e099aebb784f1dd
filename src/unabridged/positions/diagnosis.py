"""What a learned table is like: what it knows of distance, which rows stand out, how it goes on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["TableDiagnosis", "diagnose", "extrapolation_error"]

_HORIZONS = (8, 16, 32, 64, 128)
_OUTLIER = 2.0


@dataclass(frozen=True)
class TableDiagnosis:
    """What `diagnose` found.

    Attributes:
        norms: (n,) of all rows, float64.
        outlier_rows: rows further from both neighbours than twice the usual step: [CLS], and the
            last rows of the lengths at which training inputs were cut.
        offset_from_first: median |p_i - p_0| of the rows that are no outliers: what the literal
            hierarchical scheme adds to every token of a later block, up to β.
        offset_from_second: the same from row 1, the anchor of the cls-safe form.
        toeplitz_share: part of the squared Gram matrix of the body that a function of the distance
            alone explains; 1 for sinusoids. The body is the rows from the first to the last that
            is no outlier.
        explained: cumulative share of variance of the principal components of the body.
        extrapolation: horizon to relative error, see `extrapolation_error`, on the body.
    """

    norms: Tensor
    outlier_rows: tuple[int, ...]
    offset_from_first: float
    offset_from_second: float
    toeplitz_share: float
    explained: Tensor
    extrapolation: dict[int, float]

    def components(self, share: float) -> int:
        """How many principal components hold `share` of the variance."""
        return int((self.explained < share).sum()) + 1

    @property
    def reach(self) -> int:
        """Rows beyond the last known one that a continuation foretells with an error below 1/2."""
        return max((h for h, error in self.extrapolation.items() if error < 0.5), default=0)


def diagnose(table: Tensor) -> TableDiagnosis:
    """Look into a position table.

    Args:
        table: (n, D), n at least 8, without rows that belong to padding.

    Raises:
        ValueError: too few rows, or not a table.

    >>> from unabridged.positions import sinusoidal
    >>> found = diagnose(sinusoidal(100, 32))
    >>> found.outlier_rows, round(found.toeplitz_share, 6)
    ((), 1.0)
    """
    if table.ndim != 2 or len(table) < 8:
        raise ValueError(
            f"diagnose: table has shape {tuple(table.shape)}, wanted (n, D) with at least 8 rows."
        )
    rows = table.detach().double()
    outliers = _outlier_rows(rows)
    inner = [i for i in range(len(rows)) if i not in outliers]
    body = rows[inner[0] : inner[-1] + 1]
    spread = torch.linalg.svdvals(body - body.mean(0)) ** 2
    return TableDiagnosis(
        norms=rows.norm(dim=1),
        outlier_rows=outliers,
        offset_from_first=float((rows[inner] - rows[0]).norm(dim=1).median()),
        offset_from_second=float((rows[inner] - rows[1]).norm(dim=1).median()),
        toeplitz_share=_toeplitz_share(body @ body.T),
        explained=spread.cumsum(0) / spread.sum(),
        extrapolation={
            held: extrapolation_error(body, held) for held in _HORIZONS if 2 * held <= len(body) - 2
        },
    )


def extrapolation_error(table: Tensor, held_out: int, *, rank: int = 16) -> float:
    """Foretell the last rows from those before them by the best rotation, and measure the miss.

    If a table were sinusoidal, one orthogonal R would lead from every row to the next. The best
    one (orthogonal Procrustes in the leading singular directions) is fitted without the held-out
    rows and applied again and again to the last row before them. The error is relative to what
    the mean of the known rows would miss, so 1 is no better than that mean.

    Args:
        table: (n, D).
        held_out: rows to foretell, fewer than n - 2.
        rank: singular directions in which rows are followed.

    Raises:
        ValueError: too few rows are left.

    >>> from unabridged.positions import sinusoidal
    >>> extrapolation_error(sinusoidal(60, 8, dtype=torch.float64), 20, rank=8) < 1e-6
    True
    """
    if not 1 <= held_out < len(table) - 2:
        raise ValueError(
            f"extrapolation_error: held_out is {held_out} of {len(table)} rows, wanted 1 to "
            f"{len(table) - 3}."
        )
    rows = table.detach().double()
    known, wanted = rows[:-held_out], rows[-held_out:]
    mean = known.mean(0)
    directions = torch.linalg.svd(known, full_matrices=False).Vh[:rank]  # (r, D)
    path = known @ directions.T
    U, _, Vh = torch.linalg.svd(path[:-1].T @ path[1:])
    rotation, state = U @ Vh, path[-1]
    foretold = []
    for _ in range(held_out):
        state = state @ rotation
        foretold.append(state)
    missed = torch.stack(foretold) @ directions - wanted
    return float(missed.norm() / (wanted - mean).norm())


def _outlier_rows(rows: Tensor) -> tuple[int, ...]:
    steps = (rows[1:] - rows[:-1]).norm(dim=1)
    nearer = torch.minimum(torch.cat([steps[:1], steps]), torch.cat([steps, steps[-1:]]))
    return tuple(torch.nonzero(nearer > _OUTLIER * steps.median()).flatten().tolist())


def _toeplitz_share(gram: Tensor) -> float:
    """Squared norm of the nearest Toeplitz matrix, the mean of every diagonal, over the whole."""
    n = len(gram)
    means = [gram.diagonal(k).sum() ** 2 / (n - abs(k)) for k in range(1 - n, n)]
    return float(torch.stack(means).sum() / gram.square().sum())
