"""A sampled Walsh-Hadamard transform as two small matrix products a block of rows."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["hadamard_matrix", "sampled_hadamard"]

# Of a block and its first product both stay in a second-level cache; twice as large is slower.
_BLOCK_BYTES = 4 << 20
# Order of the first factor: the second product, formed only where chosen, is the larger one.
_INNER = 16


@cache
def hadamard_matrix(order: int) -> NDArray[np.float64]:
    """Sylvester's Hadamard matrix (order, order) of entries +-1; `order` a power of two.

    >>> hadamard_matrix(4)[3]
    array([ 1., -1., -1.,  1.])
    """
    matrix = np.ones((1, 1))
    while len(matrix) < order:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix


def sampled_hadamard(
    X: torch.Tensor, signs: NDArray[np.float64], chosen: NDArray[np.intp], scale: float
) -> torch.Tensor:
    """The chosen entries of scale * H diag(signs) x for every row x, without forming the others.

    H = H_a (x) H_b acts by H_b within runs of b columns, then by H_a across the runs; only the
    chosen entries of the second product are formed. A row of width w costs w b + n w / b
    multiplications instead of n w, as matrix products, which run far faster than butterflies.

    Args:
        X: rows (N, d), d at most the width of `signs`; missing columns count as zero.
        signs: +-1 (width,), width a power of two.
        chosen: entries of the transform (n,), as integers below width.
        scale: factor of the result.
    """
    width, columns = len(signs), X.shape[1]
    b = min(width, _INNER)
    flips = torch.from_numpy(signs[:columns]).to(X)
    inner = torch.from_numpy(hadamard_matrix(b)).to(X)
    outer = torch.from_numpy(scale * hadamard_matrix(width // b)).to(X)
    groups = _by_residue(torch.from_numpy(chosen).to(X.device), b, outer)
    out = X.new_empty(len(X), len(chosen))
    size = max(1, _BLOCK_BYTES // (width * X.element_size()))
    flipped = X.new_zeros(min(size, len(X)), width)
    for start in range(0, len(X), size):
        block = X[start : start + size]
        rows = len(block)
        torch.mul(block, flips, out=flipped[:rows, :columns])
        runs = inner @ flipped[:rows].view(-1, b).T  # (b, rows * a)
        for residue, places, factor in groups:
            out[start : start + rows, places] = runs[residue].view(rows, -1) @ factor
    return out


def _by_residue(
    chosen: torch.Tensor, b: int, outer: torch.Tensor
) -> list[tuple[int, torch.Tensor, torch.Tensor]]:
    """Entries i = a_i b + residue, grouped: residue, their places, columns a_i of `outer`."""
    residues = chosen % b
    places = [(r, torch.nonzero(residues == r)[:, 0]) for r in sorted(set(residues.tolist()))]
    return [(r, where, outer[:, chosen[where] // b].contiguous()) for r, where in places]
