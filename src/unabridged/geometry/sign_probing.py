"""Multi-probe hashing: which buckets of sign codes to look into, in the order of their promise."""

from __future__ import annotations

import heapq
import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from unabridged.geometry._rows import as_query, check_count
from unabridged.geometry.sign_codes import SignCodes
from unabridged.geometry.sign_planes import pack

__all__ = ["bucket_rows", "collision_probability", "probe_sequence", "probe_success"]


def collision_probability(cosine: float, width: int) -> float:
    """P(two vectors agree in `width` signs) = (1 - angle/pi)^width for independent hyperplanes.

    >>> collision_probability(0.0, 3)
    0.125
    """
    return float((1 - math.acos(max(-1.0, min(1.0, cosine))) / math.pi) ** width)


def probe_sequence(margins: NDArray[Any], probes: int) -> NDArray[np.bool_]:
    """The `probes` sets of signs to flip, in ascending order of their summed margins.

    The heap of Lv et al. (2007, Multi-probe LSH): from a set whose largest member is the j-th
    smallest margin follow the set with j + 1 added and the set with j replaced by j + 1.

    Args:
        margins: distances of the query from its hyperplanes (w,), not negative.
        probes: at most 2^w sets are made.

    Returns:
        Booleans (probes, w); the first row flips nothing.

    >>> probe_sequence(np.array([0.5, 0.1, 0.2]), 4).astype(int)
    array([[0, 0, 0],
           [0, 1, 0],
           [0, 0, 1],
           [0, 1, 1]])
    """
    order = np.argsort(margins, kind="stable")
    ascending = np.asarray(margins, np.float64)[order]
    flips = np.zeros((min(probes, 2 ** len(ascending)), len(ascending)), np.bool_)
    heap: list[tuple[float, tuple[int, ...]]] = [(float(ascending[0]), (0,))]
    for row in flips[1:]:
        total, chosen = heapq.heappop(heap)
        row[order[list(chosen)]] = True
        last = chosen[-1]
        if last + 1 < len(ascending):
            step = float(ascending[last + 1])
            heapq.heappush(heap, (total + step, (*chosen, last + 1)))
            heapq.heappush(heap, (total + step - float(ascending[last]), (*chosen[:-1], last + 1)))
    return flips


def probe_success(margins: NDArray[Any], flips: NDArray[np.bool_], cosine: float) -> float:
    """Probability that a vector of this cosine to the query lies in one of the probed buckets.

    With margins in units of a hyperplane's standard deviation, a sign differs with probability
    Phi(-c m/sqrt(1 - c^2)), independently: exact for Gaussian hyperplanes, and nearly so for the
    first few of a Haar rotation.

    Args:
        margins: |<a_i, q>|/|q| for hyperplanes a_i of N(0, 1) entries (w,).
        flips: what `probe_sequence` returned (probes, w).
        cosine: strictly between -1 and 1.
    """
    slope = cosine / math.sqrt(1 - cosine * cosine)
    differs = torch.special.ndtr(torch.from_numpy(-slope * np.asarray(margins, np.float64))).numpy()
    return float(np.where(flips, differs, 1 - differs).prod(axis=1).sum())


def bucket_rows(
    codes: SignCodes, query: object, *, width: int = 12, probes: int = 16
) -> NDArray[np.intp]:
    """Rows whose first `width` signs are among the `probes` most promising patterns of the query.

    Args:
        codes: of the rows, of any number of bits; signs are their highest plane.
        query: one vector (D,).
        width: signs of a bucket's key, at most D and 64.
        probes: how many buckets to look into.

    >>> X = np.random.default_rng(0).standard_normal((1000, 32))
    >>> rows = bucket_rows(SignCodes.encode(X), X[5], width=8, probes=1)
    >>> 5 in rows, len(rows) < 50
    (True, True)
    """
    q = as_query("bucket_rows", query, codes.dimension) - codes.centre
    check_count("bucket_rows", "width", width, 1, min(64, codes.dimension))
    check_count("bucket_rows", "probes", probes, 1)
    heights = codes.rotation[:width] @ q
    flips = probe_sequence(np.abs(heights), probes)
    keys = pack(((heights > 0) ^ flips).astype(np.uint8), 1)[0, 0]
    mask = np.uint64((1 << width) - 1)
    return np.flatnonzero(np.isin(codes.planes[-1, 0] & mask, keys))
