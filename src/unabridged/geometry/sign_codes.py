"""Sign codes: a vector in one to four bits a dimension, inner products with an exact interval."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unabridged.geometry._rows import as_query, as_rows, check_count, is_finite
from unabridged.geometry.random_projection import haar_rows
from unabridged.geometry.sign_planes import Planes, blocks, disagreement, pack, quantise, unpack
from unabridged.geometry.sphere import coordinate_quantile

__all__ = ["Estimates", "SignCodes", "cosine_from_hamming"]

_SCHEMA = "unabridged.sign_codes/1"
_ENCODE_ROWS = 8_192
# float32 sums over a few hundred terms; without this slack an interval of width 0 would miss.
_ROUNDING = 4e-6

Rows = slice | NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Estimates:
    """Estimated inner products and the bounds of their intervals, each of shape (rows,)."""

    value: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SignCodes:
    """Vectors as packed signs after a random rotation, with what an unbiased estimate needs.

    A row o is centred, o = m + r, rotated by a Haar matrix P, and r's direction is kept as the code
    g = quantise(P r) of 1 to 4 bits a dimension. For any query q

        <q, o>  is estimated by  <q, m> + |r|^2 <g, P q> / <g, P r>,

    without bias over the rotation (RaBitQ, Gao and Long 2024, arXiv 2405.12497, theorem 3.2; more
    bits: arXiv 2409.09913). With u = r/|r|, c = <q, u> and t the tangent of the angle between g and
    P r the error is exactly t sqrt(|q|^2 - c^2) x, x one coordinate of a point uniform on the
    sphere of D - 1 dimensions. We solve that for c, where the paper takes a constant times a
    bound, so intervals have their nominal coverage for every vector, spikes included.

    What this rests on: neither data nor queries were chosen by looking at the rotation.

    Made by `SignCodes.encode`; the fields are the stored state.

    Attributes:
        dimension: D.
        bits: bits a dimension, 1 to 4.
        seed: of the rotation.
        centre: m (D,), float64.
        planes: packed codes (bits, ceil(D/64), N).
        scale: |r|^2 / <g, P r> (N,), float32.
        length: |r| (N,), float32.
        tangent: t (N,), float32.
    """

    dimension: int
    bits: int
    seed: int
    centre: NDArray[np.float64]
    planes: Planes
    scale: NDArray[np.float32]
    length: NDArray[np.float32]
    tangent: NDArray[np.float32]

    @classmethod
    def encode(
        cls, vectors: object, *, bits: int = 1, seed: int = 0, centre: object = None
    ) -> SignCodes:
        """Codes of `vectors` (N, D).

        Args:
            vectors: finite numbers, any float dtype; held a block at a time in float32.
            bits: 1 to 4 bits a dimension.
            seed: of the rotation; equal seeds give equal codes.
            centre: what is subtracted first (D,); None means the mean of `vectors`.

        Raises:
            TypeError: Not numbers, or `bits` no integer.
            ValueError: Wrong shapes, no rows, NaN or infinity, bits outside 1 to 4.

        >>> rng = np.random.default_rng(0)
        >>> X = rng.standard_normal((1000, 96))
        >>> codes = SignCodes.encode(X)
        >>> codes.planes.shape, codes.bytes_per_vector
        ((1, 2, 1000), 28)
        """
        X = as_rows("SignCodes.encode", vectors)
        check_count("SignCodes.encode", "bits", bits, 1, 4)
        check_count("SignCodes.encode", "seed", seed, 0)
        if X.size == 0:
            raise ValueError(
                f"SignCodes.encode: got shape {X.shape}; wanted at least one row and one column, "
                "so encode when there are vectors."
            )
        middle = X.mean(axis=0, dtype=np.float64) if centre is None else centre
        empty = cls(
            X.shape[1], bits, seed, as_query("SignCodes.encode", middle, X.shape[1]),
            np.empty((bits, -(-X.shape[1] // 64), 0), np.uint64), *np.empty((3, 0), np.float32),
        )  # fmt: skip
        return empty.extend(X)

    def extend(self, vectors: object) -> SignCodes:
        """These codes followed by those of `vectors` (n, D), with the same centre and rotation."""
        X = as_rows("SignCodes.extend", vectors, self.dimension)
        if not is_finite(X):
            raise ValueError(
                "SignCodes.extend: got NaN or infinity; wanted finite vectors, "
                "so drop or repair those rows first."
            )
        parts = [self._encode_block(X[rows]) for rows in blocks(0, len(X), _ENCODE_ROWS)]
        return replace(
            self,
            planes=np.concatenate([self.planes, *(p[0] for p in parts)], axis=2),
            scale=np.concatenate([self.scale, *(p[1] for p in parts)]),
            length=np.concatenate([self.length, *(p[2] for p in parts)]),
            tangent=np.concatenate([self.tangent, *(p[3] for p in parts)]),
        )

    def _encode_block(self, X: NDArray[Any]) -> tuple[Planes, Any, Any, Any]:
        R = (X - self.centre).astype(np.float32)
        U = R @ self.rotation.T.astype(np.float32)
        levels = quantise(U, self.bits)
        values = levels.astype(np.float32) * 2 + np.float32(1 - (1 << self.bits))
        inner = np.einsum("nd,nd->n", values, U, dtype=np.float64)
        squared = np.einsum("nd,nd->n", U, U, dtype=np.float64)
        norms = np.einsum("nd,nd->n", values, values, dtype=np.float64)
        zero = squared == 0
        inner[zero] = 1
        # tan^2 = |g|^2 |r|^2 / <g, Pr>^2 - 1; only rounding takes it below zero.
        tangent = np.sqrt(np.maximum(norms * squared / inner**2 - 1, 0))
        tangent[zero] = 0
        factors = squared / inner, np.sqrt(squared), tangent
        return pack(levels, self.bits), *(f.astype(np.float32) for f in factors)

    def __len__(self) -> int:
        return len(self.scale)

    @cached_property
    def rotation(self) -> NDArray[np.float64]:
        """The Haar matrix P (D, D) of the seed."""
        return haar_rows(self.dimension, self.dimension, self.seed)

    @property
    def bytes_per_vector(self) -> int:
        """Bytes of codes and of the three factors of one row."""
        return 8 * self.bits * -(-self.dimension // 64) + 12

    def quantise_query(self, query: NDArray[np.float64], bits: int) -> tuple[Planes, float, float]:
        """Planes (bits, words) of the rotated query, their unit, and the L1 norm of what they lose.

        P q = unit * odd numbers + loss; the loss bounds the error of any row's product exactly.
        """
        v = self.rotation @ query
        levels = quantise(v[None].astype(np.float32), bits)
        values = levels[0].astype(np.float64) * 2 + (1 - (1 << bits))
        unit = float(values @ v) / float(values @ values)
        return pack(levels, bits)[:, :, 0], unit, float(np.abs(v - unit * values).sum())

    def coarse(self, planes: Planes, unit: float, rows: slice) -> NDArray[np.float32]:
        """|r|^2 <g, unit * query> / <g, P r> of a block of rows, by population counts alone."""
        top = ((1 << self.bits) - 1) * ((1 << len(planes)) - 1) * self.dimension
        value = disagreement(self.planes, planes, rows).astype(np.float32)
        value *= np.float32(-2 * unit)
        value += np.float32(top * unit)
        value *= self.scale[rows]
        return value

    def estimate(
        self, query: object, rows: NDArray[np.intp] | None = None, *, failure: float = 0.05
    ) -> Estimates:
        """Inner products of `query` (D,) with the chosen rows, each with an interval.

        Args:
            query: one vector.
            rows: which rows, as integers; None means all.
            failure: probability, over the rotation, with which one row's interval may miss.

        Returns:
            Estimates in the order of `rows`. `value` is unbiased; [lower, upper] holds the true
            inner product with probability 1 - `failure` exactly, row by row.

        >>> X = np.random.default_rng(0).standard_normal((500, 128))
        >>> codes = SignCodes.encode(X, bits=4)
        >>> got = codes.estimate(X[3], np.array([3, 4]), failure=0.001)
        >>> bool(((got.lower <= X[[3, 4]] @ X[3]) & (X[[3, 4]] @ X[3] <= got.upper)).all())
        True
        """
        q = as_query("SignCodes.estimate", query, self.dimension)
        check_failure("SignCodes.estimate", failure)
        chosen: Iterator[Rows] = (
            blocks(0, len(self), _ENCODE_ROWS)
            if rows is None
            else (rows[part] for part in blocks(0, len(rows), _ENCODE_ROWS))
        )
        parts = [self._estimate_block(q, part, failure / 2) for part in chosen]
        stacked = np.concatenate(parts, axis=1) if parts else np.empty((3, 0))
        return Estimates(*stacked)

    def _estimate_block(
        self, query: NDArray[np.float64], rows: Rows, tail: float
    ) -> NDArray[np.float64]:
        v = (self.rotation @ query).astype(np.float32)
        products = unpack(self.planes[:, :, rows], self.dimension) @ v
        length = self.length[rows].astype(np.float64)
        shift = float(query @ self.centre)
        norm = float(np.linalg.norm(query))
        value = products * self.scale[rows].astype(np.float64)
        k = self.tangent[rows] * coordinate_quantile(tail, self.dimension - 1)
        # |c~ - c| <= k sqrt(|q|^2 - c^2), squared and solved for c; both sides are scaled by |r|.
        reach = (norm * length) ** 2 * (1 + k * k) - value**2
        half = k * np.sqrt(np.maximum(reach, 0)) / (1 + k * k)
        middle = value / (1 + k * k)
        slack = _ROUNDING * norm * (length + float(np.linalg.norm(self.centre)))
        bound = norm * length + slack
        lower = np.maximum(middle - half - slack, -bound)
        upper = np.minimum(middle + half + slack, bound)
        return np.stack([value, lower, upper]) + shift

    def hamming(self, query: object) -> NDArray[np.int64]:
        """Number of dimensions in which the signs of a row and of the query differ (N,).

        The plain binary code, for comparison. 1 - 2 h / D estimates 1 - 2 angle / pi, not the
        cosine (Goemans and Williamson 1995); `cosine_from_hamming` undoes that.
        """
        q = as_query("SignCodes.hamming", query, self.dimension) - self.centre
        signs = pack(quantise((self.rotation @ q)[None].astype(np.float32), 1), 1)[:, :, 0]
        top = self.planes[-1:]
        parts = [disagreement(top, signs, rows) for rows in blocks(0, len(self))]
        return np.concatenate([np.empty(0, np.int64), *parts]).astype(np.int64)

    def save(self, path: str | Path) -> None:
        """Write the codes as one safetensors file; the rotation is kept as its seed."""
        from safetensors.numpy import save_file

        about = {"dimension": self.dimension, "bits": self.bits, "seed": self.seed}
        arrays = {name: np.ascontiguousarray(getattr(self, name)) for name in _ARRAYS}
        save_file(arrays, path, metadata={"schema": _SCHEMA, "settings": json.dumps(about)})

    @classmethod
    def load(cls, path: str | Path) -> SignCodes:
        """Read what `save` wrote.

        Raises:
            ValueError: The file holds something else.
        """
        from safetensors import safe_open

        with safe_open(path, framework="np") as stored:
            about = stored.metadata() or {}
            if about.get("schema") != _SCHEMA:
                raise ValueError(
                    f"SignCodes.load: got {path} with schema {about.get('schema')}; wanted "
                    f"{_SCHEMA}, so encode the vectors again with this version."
                )
            arrays = {name: stored.get_tensor(name) for name in _ARRAYS}
        return cls(**json.loads(about["settings"]), **arrays)


_ARRAYS = ("centre", "planes", "scale", "length", "tangent")


def cosine_from_hamming(different: NDArray[Any], dimension: int) -> NDArray[np.float64]:
    """cos(pi h / D): the consistent estimate of the cosine from `different` of D signs.

    >>> cosine_from_hamming(np.array([0, 32, 64]), 64).round(12)
    array([ 1.,  0., -1.])
    """
    return np.asarray(np.cos(np.pi * different / dimension))


def check_failure(caller: str, failure: float) -> None:
    """Raise ValueError unless `failure` is a probability strictly between 0 and 1."""
    if not 0 < failure < 1:
        raise ValueError(
            f"{caller}: got failure={failure}; wanted a probability strictly between 0 and 1, "
            "so choose for instance 0.05."
        )
