"""Bit planes: packed codes, and their inner products by exclusive or and population count.

A code of `b` bits stands for the odd numbers -(2^b - 1), ..., -1, 1, ..., 2^b - 1 and is kept as
`b` planes of signs: value = sum_p 2^p s_p with s_p = +-1. The inner product of two such vectors is
then a sum over pairs of planes, and <s, t> = D - 2 popcount(s xor t).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["BLOCK", "Planes", "blocks", "disagreement", "pack", "quantise", "unpack"]

Planes = NDArray[np.uint64]

# Rows of one block: six words of 16,384 rows and the temporaries stay within a 2 MiB cache.
BLOCK = 16_384
# Step of the uniform quantiser that is optimal for a Gaussian of unit variance (Max 1960), by bits.
_STEP = {2: 0.9957, 3: 0.5860, 4: 0.3352}
_STEP_FACTORS = np.linspace(0.6, 1.4, 17)


def quantise(U: NDArray[np.float32], bits: int) -> NDArray[np.uint8]:
    """Level of every entry, 0 to 2^bits - 1, with the step that maximises each row's own cosine.

    Level l stands for the number 2 l + 1 - 2^bits. One bit is the sign; with more bits the
    direction of a row's code follows the row as closely as 17 trial steps allow (extended RaBitQ,
    Gao et al. 2024, arXiv 2409.09913, searches all steps).

    Args:
        U: rows (N, D).
        bits: 1 to 4.
    """
    if bits == 1:
        return (U > 0).astype(np.uint8)
    half = 1 << (bits - 1)
    spread = np.sqrt(np.mean(U * U, axis=1, keepdims=True))
    spread[spread == 0] = 1
    best = np.full(len(U), -np.inf, np.float32)
    levels = np.zeros(U.shape, np.uint8)
    for factor in _STEP_FACTORS * _STEP[bits]:
        trial = np.clip(np.floor(U / (factor * spread)) + half, 0, 2 * half - 1)
        values = 2 * trial + (1 - 2 * half)
        cosine = np.einsum("nd,nd->n", values, U) / np.sqrt(np.einsum("nd,nd->n", values, values))
        better = cosine > best
        best[better] = cosine[better]
        levels[better] = trial[better].astype(np.uint8)
    return levels


def pack(levels: NDArray[np.uint8], bits: int) -> Planes:
    """Levels (N, D) as planes (bits, words, N), most significant last, D padded with zeros."""
    rows, dimension = levels.shape
    words = -(-dimension // 64)
    planes = np.empty((bits, words, rows), np.uint64)
    for p in range(bits):
        packed = np.zeros((rows, 8 * words), np.uint8)
        packed[:, : -(-dimension // 8)] = np.packbits((levels >> p) & 1, axis=1, bitorder="little")
        planes[p] = packed.view("<u8").T
    return planes


def unpack(planes: Planes, dimension: int) -> NDArray[np.float32]:
    """The odd numbers (N, D) that planes (bits, words, N) stand for."""
    bits, words, rows = planes.shape
    values = np.full((rows, dimension), 1 - (1 << bits), np.float32)
    for p in range(bits):
        octets = np.ascontiguousarray(planes[p].T).astype("<u8", copy=False).view(np.uint8)
        signs = np.unpackbits(octets.reshape(rows, 8 * words), axis=1, bitorder="little")
        values += np.float32(2 << p) * signs[:, :dimension]
    return values


def blocks(start: int, stop: int, size: int = BLOCK) -> Iterator[slice]:
    """Consecutive slices of at most `size` rows that cover start to stop."""
    return (slice(low, min(low + size, stop)) for low in range(start, stop, size))


def disagreement(planes: Planes, query: Planes, rows: slice) -> NDArray[np.unsignedinteger[Any]]:
    """sum_{p,j} 2^(p+j) popcount(plane_p xor query_j) for a block of rows.

    With S = (2^bits - 1) (2^query_bits - 1) D the inner product of the two codes is
    S - 2 disagreement, exactly.

    Args:
        planes: (bits, words, N).
        query: (query_bits, words).
        rows: the block, at most a few tens of thousands of rows, so that temporaries stay in cache.
    """
    part = planes[:, :, rows]
    bits, words, size = part.shape
    different = np.empty(size, np.uint64)
    count = np.empty(size, np.uint8)
    top = ((1 << bits) - 1) * ((1 << len(query)) - 1) * 64 * words
    width = np.uint16 if top < 1 << 16 else np.uint32
    total: NDArray[np.unsignedinteger[Any]] = np.zeros(size, width)
    # Horner's rule over p + j, from the heaviest pairs of planes down: one shift a weight.
    for weight in range(bits + len(query) - 2, -1, -1):
        np.left_shift(total, 1, out=total)
        for p in range(max(0, weight - len(query) + 1), min(bits, weight + 1)):
            for w in range(words):
                np.bitwise_xor(part[p, w], query[weight - p, w], out=different)
                np.bitwise_count(different, out=count)
                np.add(total, count, out=total)
    return total
