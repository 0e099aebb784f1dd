"""Top-k by sign codes: a scan by population counts, then exact products of the few that matter."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from unabridged.geometry._rows import as_query, as_rows, check_count
from unabridged.geometry.sign_codes import SignCodes, check_failure
from unabridged.geometry.sign_planes import BLOCK, blocks
from unabridged.geometry.sphere import coordinate_quantile

__all__ = ["TopK", "certified_top_k", "top_k"]

Fetch = Callable[[NDArray[np.intp]], Any]
Scores = NDArray[np.float32]
T = TypeVar("T")

_CERTIFIED_QUERY_BITS = 4
_FIRST_RESCORED = 256
_BATCH = 1_024


@dataclass(frozen=True, eq=False)
class TopK:
    """The best rows and what was done to find them.

    Attributes:
        rows: best first (k,), or fewer where there are fewer rows.
        scores: exact inner products (k,), descending; equal scores by row number.
        rescored: how many exact products were formed.
        proven: whether no other row can belong to the answer, up to `failure`.
        failure: probability over the rotation that a proven answer is wrong; 1 where not proven.
    """

    rows: NDArray[np.intp]
    scores: NDArray[np.float64]
    rescored: int
    proven: bool
    failure: float


def top_k(
    codes: SignCodes,
    query: object,
    vectors: object,
    *,
    k: int = 10,
    rescore: int = 1_000,
    query_bits: int = 2,
) -> TopK:
    """The k rows of largest inner product among the `rescore` best by estimate.

    The scan reads the packed codes and one factor a row: D/8 + 4 bytes at one bit. The query is cut
    to `query_bits` bits a dimension, so that products are population counts.

    Args:
        codes: of the rows.
        query: one vector (D,).
        vectors: the rows themselves (N, D), array, memory map or tensor, or a function that fetches
            rows by their numbers.
        k: how many.
        rescore: how many exact products to form, at least k.
        query_bits: 1 to 4; each bit costs one more pass over the codes.

    Returns:
        TopK; `proven` only where every row was rescored.

    Raises:
        TypeError: A count that is no integer.
        ValueError: Wrong shapes, NaN or infinity, counts out of range.

    >>> X = np.random.default_rng(0).standard_normal((2000, 64))
    >>> best = top_k(SignCodes.encode(X), X[7], X, k=3, rescore=200)
    >>> int(best.rows[0]), best.rescored
    (7, 200)
    """
    q = as_query("top_k", query, codes.dimension)
    check_count("top_k", "k", k, 1)
    check_count("top_k", "rescore", rescore, k)
    check_count("top_k", "query_bits", query_bits, 1, 4)
    fetch = _fetcher("top_k", vectors, codes)
    planes, unit, _ = codes.quantise_query(q, query_bits)
    candidates = _best(lambda rows: codes.coarse(planes, unit, rows), len(codes), rescore)
    exact = _exact(fetch, candidates, q)
    every = len(candidates) == len(codes)
    return _answer(candidates, exact, k, every, 0.0 if every else 1.0)


def certified_top_k(
    codes: SignCodes,
    query: object,
    vectors: object,
    *,
    k: int = 10,
    failure: float = 0.01,
    budget: int | None = None,
) -> TopK:
    """The k rows of largest inner product, proven up to a stated probability of failure.

    Exact products are formed for the rows whose upper bound reaches the k-th best product so far,
    in descending order of that bound, until none is left. The answer can be wrong only if the upper
    bound of one of the k true answers is below its own true product; each of these k fails with
    probability `failure`/k over the rotation, however many rows there are, and whatever they are.

    Args:
        codes: of the rows.
        query: one vector (D,), chosen without looking at the rotation.
        vectors: as for `top_k`.
        k: how many.
        failure: bound of the probability that a proven answer is not the true one.
        budget: most exact products to form; None means as many as the proof needs.

    Returns:
        TopK; `proven` is False where the budget ended the search first.

    Raises:
        TypeError: A count that is no integer.
        ValueError: Wrong shapes, NaN or infinity, counts or probabilities out of range.

    >>> X = np.random.default_rng(0).standard_normal((2000, 64))
    >>> best = certified_top_k(SignCodes.encode(X), X[7], X, k=1)
    >>> best.rows.tolist(), best.proven
    ([7], True)
    """
    q = as_query("certified_top_k", query, codes.dimension)
    check_count("certified_top_k", "k", k, 1)
    check_failure("certified_top_k", failure)
    most = len(codes) if budget is None else check_count("certified_top_k", "budget", budget, k)
    fetch = _fetcher("certified_top_k", vectors, codes)
    tail = failure / k
    planes, unit, loss = codes.quantise_query(q, _CERTIFIED_QUERY_BITS)
    coarse = np.empty(len(codes), np.float32)

    def score(rows: slice) -> Scores:
        coarse[rows] = codes.coarse(planes, unit, rows)
        return coarse[rows]

    first = _best(score, len(codes), min(most, max(4 * k, _FIRST_RESCORED)))
    exact = _exact(fetch, first, q)
    threshold = _kth(exact, k)
    bound = _coarse_bound(codes, coarse, loss, float(np.linalg.norm(q)), tail)
    alive = np.setdiff1d(_reaching(codes, bound, threshold - float(q @ codes.centre)), first)
    upper = codes.estimate(q, alive, failure=2 * tail).upper
    order = np.argsort(-upper, kind="stable")
    alive, upper = alive[order], upper[order]
    seen, done = [first], len(first)
    products = [exact]
    place = 0
    while place < len(alive) and upper[place] >= threshold and done < most:
        reach = int(np.searchsorted(-upper, -threshold, side="right"))
        part = alive[place : min(place + min(_BATCH, most - done), reach)]
        seen.append(part)
        products.append(_exact(fetch, part, q))
        threshold = max(threshold, _kth(np.concatenate(products), k))
        place, done = place + len(part), done + len(part)
    proven = place == len(alive) or bool(upper[place] < threshold)
    rows, scores = np.concatenate(seen), np.concatenate(products)
    return _answer(rows, scores, k, proven, failure if proven else 1.0)


def _coarse_bound(
    codes: SignCodes, coarse: Scores, loss: float, norm: float, tail: float
) -> Callable[[slice], Scores]:
    """Upper bounds of <q, r> from population counts: what the code loses and what the query loses.

    Codes are at most 2^bits - 1, so the query's loss moves a product by at most that times its L1
    norm; the code's error is at most tangent |q| |r| x.
    """
    x = np.float32(coordinate_quantile(tail, codes.dimension - 1) * norm * (1 + 1e-5))
    lost = np.float32(loss * ((1 << codes.bits) - 1))
    flat = np.float32(1e-5 * norm)

    def bound(rows: slice) -> Scores:
        upper = coarse[rows] + codes.scale[rows] * lost
        upper += codes.tangent[rows] * codes.length[rows] * x
        upper += flat * (codes.length[rows] + np.float32(np.linalg.norm(codes.centre)))
        return upper

    return bound


def _best(score: Callable[[slice], Scores], rows: int, count: int) -> NDArray[np.intp]:
    """Rows of the `count` largest scores, in ascending row order; every row is scored once."""
    found = _in_threads(lambda share: _best_of_share(score, count, share), rows)
    numbers = np.concatenate([part[0] for part in found])
    values = np.concatenate([part[1] for part in found])
    return np.sort(numbers[_largest(values, count)])


def _best_of_share(
    score: Callable[[slice], Scores], count: int, share: tuple[int, int]
) -> tuple[NDArray[np.intp], Scores]:
    rows, values = [np.empty(0, np.intp)], [np.empty(0, np.float32)]
    held, floor = 0, np.float32(-np.inf)
    for block in blocks(*share):
        value = score(block)
        above = np.flatnonzero(value > floor)
        rows.append(above + block.start)
        values.append(value[above])
        held += len(above)
        # Most blocks add a handful; cutting back only now and then keeps the cost linear.
        if held > 3 * count:
            all_rows, all_values = np.concatenate(rows), np.concatenate(values)
            kept = _largest(all_values, count)
            rows, values, held = [all_rows[kept]], [all_values[kept]], count
            floor = values[0].min()
    return np.concatenate(rows), np.concatenate(values)


def _reaching(
    codes: SignCodes, bound: Callable[[slice], Scores], threshold: float
) -> NDArray[np.intp]:
    """Rows whose upper bound is at least the threshold."""

    def reaching(share: tuple[int, int]) -> NDArray[np.intp]:
        found = [np.flatnonzero(bound(b) >= threshold) + b.start for b in blocks(*share)]
        return np.concatenate([np.empty(0, np.intp), *found])

    return np.concatenate(_in_threads(reaching, len(codes)))


def _in_threads(work: Callable[[tuple[int, int]], T], rows: int) -> list[T]:
    """`work` on contiguous shares of the rows, one for each of torch's threads.

    The array operations inside release the interpreter's lock.
    """
    threads = max(1, min(torch.get_num_threads(), rows // BLOCK))
    edges = np.linspace(0, rows, threads + 1).astype(int).tolist()
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, pairwise(edges)))


def _largest(values: NDArray[Any], count: int) -> NDArray[np.intp]:
    if count >= len(values):
        return np.arange(len(values))
    return np.argpartition(values, len(values) - count)[len(values) - count :]


def _kth(values: NDArray[np.float64], k: int) -> float:
    """The k-th largest value, minus infinity where there are fewer."""
    return -np.inf if len(values) < k else float(np.partition(values, len(values) - k)[-k])


def _fetcher(caller: str, vectors: Any, codes: SignCodes) -> Fetch:  # noqa: ANN401 (any rows)
    if callable(vectors):
        return vectors  # type: ignore[no-any-return]
    shape = tuple(getattr(vectors, "shape", np.shape(vectors)))
    if shape != (len(codes), codes.dimension):
        raise ValueError(
            f"{caller}: got vectors of shape {shape}; wanted {(len(codes), codes.dimension)}, "
            "so pass the rows that the codes were made of."
        )
    array = vectors if hasattr(vectors, "shape") else np.asarray(vectors)
    return lambda rows: array[rows]


def _exact(fetch: Fetch, rows: NDArray[np.intp], query: NDArray[np.float64]) -> NDArray[np.float64]:
    fetched = as_rows("rescoring", fetch(rows), len(query))
    return np.asarray(fetched @ query.astype(fetched.dtype), np.float64)


def _answer(
    rows: NDArray[np.intp], exact: NDArray[np.float64], k: int, proven: bool, failure: float
) -> TopK:
    order = np.lexsort((rows, -exact))[:k]
    return TopK(rows[order], exact[order], len(rows), proven, failure)
