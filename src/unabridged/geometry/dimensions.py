"""How many dimensions are enough: exact bounds for projections, a law for embeddings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from unabridged.geometry._rows import as_rows, check_count, is_finite
from unabridged.geometry.random_projection import RandomProjection, own_stream

__all__ = [
    "DimensionEstimate",
    "classic_dimension",
    "dimension_for",
    "distortion_probability",
    "embedding_dimension",
    "estimate_dimension",
]


def distortion_probability(dimension: int, eps: float) -> float:
    """P(|Ax|^2/|x|^2 outside (1 - eps, 1 + eps)) exactly, A a Gaussian projection.

    |Ax|^2/|x|^2 is chi-square(n)/n, so both tails are incomplete gamma functions:
    P(n/2, n (1 - eps)/2) + Q(n/2, n (1 + eps)/2).

    Args:
        dimension: n, at least 1.
        eps: relative distortion of squared lengths, above 0; from 1 on only the upper tail is left.

    >>> round(distortion_probability(2, 0.5), 4)
    0.6166
    """
    check_count("distortion_probability", "dimension", dimension, 1)
    _check_open("distortion_probability", "eps", eps, math.inf)
    half = torch.tensor(dimension / 2, dtype=torch.float64)
    lower = torch.special.gammainc(half, half * max(0.0, 1 - eps))
    return float(lower + torch.special.gammaincc(half, half * (1 + eps)))


def dimension_for(points: int, eps: float, *, failure: float = 0.05) -> int:
    """Least n so that a Gaussian projection keeps all squared distances within 1 +- eps.

    With probability at least 1 - `failure` all N (N - 1)/2 of them at once: the union bound over
    the exact chi-square tails. At eps = 0.1 and failure 1/N it asks for less than half of
    24 ln N/eps^2, with the same promise; the order eps^-2 log N cannot be improved (Larsen and
    Nelson 2017).

    Args:
        points: N, at least 2.
        eps: relative distortion of squared distances, between 0 and 1.
        failure: probability that some distance is distorted by more, between 0 and 1.

    >>> dimension_for(10_000, 0.1, failure=1e-4), classic_dimension(10_000, 0.1)
    (10262, 22105)
    """
    check_count("dimension_for", "points", points, 2)
    _check_open("dimension_for", "eps", eps, 1)
    _check_open("dimension_for", "failure", failure, 1)
    allowed = failure / (points * (points - 1) / 2)
    high = 1
    while distortion_probability(high, eps) > allowed:
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        if distortion_probability(middle, eps) > allowed:
            low = middle
        else:
            high = middle
    return high


def classic_dimension(
    points: int, eps: float, *, form: Literal["textbook", "dasgupta-gupta"] = "textbook"
) -> int:
    """The bounds that are usually quoted, for comparison.

    textbook: 24 ln N/eps^2, failure at most 1/N. dasgupta-gupta: 4 ln N/(eps^2/2 - eps^3/3)
    (2003; scikit-learn's `johnson_lindenstrauss_min_dim` rounds it down), whose proof promises no
    more than that some projection succeeds.

    >>> classic_dimension(10_000, 0.1, form="dasgupta-gupta")
    7895
    """
    check_count("classic_dimension", "points", points, 2)
    _check_open("classic_dimension", "eps", eps, 1)
    if form == "textbook":
        return math.ceil(24 * math.log(points) / eps**2)
    if form == "dasgupta-gupta":
        return math.ceil(4 * math.log(points) / (eps**2 / 2 - eps**3 / 3))
    raise ValueError(
        f"classic_dimension: got form={form!r}; wanted 'textbook' or 'dasgupta-gupta', "
        "so choose one of these words."
    )


def embedding_dimension(count: int) -> int:
    """8.33 ln N, rounded up: the heuristic for embeddings of N words or heads over N positions.

    From an estimate of the entropy of softmax over inner products of n-dimensional Gaussian vectors
    (Su Jianlin's minimum-entropy argument). A rule of thumb, not a bound: the experiment of
    `benchmarks/dimensions.py` says how far it holds.

    >>> [embedding_dimension(n) for n in (512, 2048, 16_384)]
    [52, 64, 81]
    """
    check_count("embedding_dimension", "count", count, 2)
    return math.ceil(8.33 * math.log(count))


@dataclass(frozen=True, eq=False)
class DimensionEstimate:
    """What a sample of pairs says about a projection of one seed.

    Attributes:
        dimension: least n from which on the measured share of distorted pairs is at most `share`.
        lower: no smaller n can be enough.
        upper: this n is enough, or None where not even `largest` is proven to be.
        distorted: measured share of distorted pairs at 1, 2, ..., largest dimensions.
        band: half-width of the confidence band around `distorted`.
        confidence: probability that the band holds at all dimensions at once.
    """

    dimension: int | None
    lower: int
    upper: int | None
    distorted: NDArray[np.float64]
    band: float
    confidence: float


def estimate_dimension(
    X: object,
    eps: float,
    *,
    share: float = 0.01,
    kind: Literal["gaussian", "orthogonal"] = "orthogonal",
    pairs: int = 20_000,
    seed: int = 0,
) -> DimensionEstimate:
    """Dimensions that keep all but a share of these vectors' own squared distances within 1 +- eps.

    Sampled pairs are projected once to as many dimensions as X has; because projections of one seed
    are nested, running sums give the distortion at every smaller n, of the very matrix that
    `RandomProjection(kind, d, n, seed)` draws. The share of distorted pairs is a mean of
    indicators, so by Hoeffding's inequality, and a union over all n, the band holds at every n
    together with probability 0.95 over the choice of pairs.

    Args:
        X: rows (N, d), at least two different ones.
        eps: relative distortion of squared distances, between 0 and 1.
        share: share of pairs that may be distorted by more, between 0 and 1.
        kind: the projection to be used.
        pairs: how many pairs to sample, with replacement; equal rows are passed over.
        seed: of the projection; pairs come from a stream of their own.

    Raises:
        ValueError: Wrong shapes, NaN or infinity, fewer than two different rows.

    >>> X = np.random.default_rng(0).standard_normal((500, 64))
    >>> found = estimate_dimension(X, 0.5, share=0.05)
    >>> found.lower <= found.dimension <= found.upper
    True
    """
    rows = as_rows("estimate_dimension", X)
    _check_open("estimate_dimension", "eps", eps, 1)
    _check_open("estimate_dimension", "share", share, 1)
    check_count("estimate_dimension", "pairs", pairs, 1)
    if not is_finite(rows):
        raise ValueError(
            "estimate_dimension: got NaN or infinity; wanted finite vectors, "
            "so drop or repair those rows first."
        )
    differences = _sampled_differences(rows, pairs, seed)
    d = rows.shape[1]
    projected = RandomProjection(kind, d, d, seed).transform(differences)
    # Of n coordinates of a projection to d: |A_n x|^2 = (d/n) times the sum of the first n squares.
    ratio = np.cumsum(projected**2, axis=1) * (d / np.arange(1, d + 1))
    ratio /= np.einsum("pd,pd->p", differences, differences)[:, None]
    distorted = np.mean(np.abs(ratio - 1) >= eps, axis=0)
    confidence = 0.95
    band = math.sqrt(math.log(2 * d / (1 - confidence)) / (2 * len(differences)))
    return DimensionEstimate(
        _stays_below(distorted, share),
        _stays_below(distorted - band, share) or d,
        _stays_below(distorted + band, share),
        distorted,
        band,
        confidence,
    )


def _sampled_differences(rows: NDArray[np.floating], pairs: int, seed: int) -> NDArray[np.float64]:
    first, second = own_stream(seed).integers(0, max(1, len(rows)), (2, 4 * pairs))
    different = np.zeros((0, rows.shape[1]))
    if len(rows):
        usable = np.flatnonzero((rows[first] != rows[second]).any(axis=1))[:pairs]
        different = rows[first[usable]].astype(np.float64) - rows[second[usable]]
    if not len(different):
        raise ValueError(
            f"estimate_dimension: got {len(rows)} rows without two different ones among the pairs; "
            "wanted vectors that differ, so pass more of them."
        )
    return different


def _stays_below(distorted: NDArray[np.float64], share: float) -> int | None:
    """Least n from which on all entries are at most `share`; entry 0 belongs to n = 1."""
    above = np.flatnonzero(distorted > share)
    least = 1 if not len(above) else int(above[-1]) + 2
    return least if least <= len(distorted) else None


def _check_open(caller: str, name: str, value: float, high: float) -> None:
    if not 0 < value < high:
        wanted = "above 0" if high == math.inf else f"strictly between 0 and {high}"
        raise ValueError(f"{caller}: got {name}={value}; wanted a number {wanted}.")
