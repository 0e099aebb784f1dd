"""Random projections: fewer dimensions, distances kept, no data looked at."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from unabridged.geometry._rows import as_rows, check_columns, check_count
from unabridged.geometry.hadamard import hadamard_matrix, sampled_hadamard

__all__ = ["Kind", "RandomProjection", "haar_rows", "inner_product_variance", "own_stream"]

Kind = Literal["gaussian", "rademacher", "sparse", "hadamard", "orthogonal"]

_DENSIFY_ROWS = 4_096
_STREAM = 0x4A4C  # "JL"


@dataclass(frozen=True)
class RandomProjection:
    """A random linear map A from `input_dimension` to `dimension` with E|Ax|^2 = |x|^2 for every x.

    Kinds, with n = `dimension` and d = `input_dimension`:

    - gaussian: entries N(0, 1/n). |Ax|^2/|x|^2 is exactly chi-square(n)/n, whatever x: the only
      kind for which `dimensions.dimension_for` is exact. Var <Ax, Ay> = (|x|^2 |y|^2 + <x, y>^2)/n.
    - rademacher: entries +-1/sqrt(n) (Achlioptas 2003). Never worse in variance than gaussian.
    - sparse: exactly `nonzeros` entries +-1/sqrt(nonzeros) in every column (Kane and Nelson 2014),
      in rows drawn without replacement.
    - hadamard: sqrt(w/n) R H D with random signs D, Sylvester's H/sqrt(w), w the least power of two
      that holds d, and n rows R drawn without replacement (Ailon and Chazelle 2009). Faster than a
      dense product from about 4,000 dimensions on.
    - orthogonal: sqrt(d/n) times n rows of a Haar matrix; n <= d. Its variance is that of gaussian
      times (1 - n/d) and a little less.

    Equal seeds give equal matrices. Gaussian and orthogonal matrices of one seed are nested: the
    first rows do not depend on `dimension`, up to the scale.

    Args:
        kind: one of the five words.
        input_dimension: d, at least 1.
        dimension: n, at least 1; at most d for orthogonal, at most w for hadamard.
        seed: integer.
        nonzeros: for sparse: nonzero entries of each column, 1 to n; None means min(8, n).

    Raises:
        TypeError: A count that is no integer.
        ValueError: An unknown kind, a count out of range, or `nonzeros` with another kind.

    >>> projection = RandomProjection("gaussian", 4096, 256, seed=1)
    >>> projection.transform(np.ones((3, 4096), np.float32)).shape
    (3, 256)
    """

    kind: Kind
    input_dimension: int
    dimension: int
    seed: int = 0
    nonzeros: int | None = None

    def __post_init__(self) -> None:
        caller = "RandomProjection"
        if self.kind not in get_args(Kind):
            raise ValueError(
                f"{caller}: got kind={self.kind!r}; wanted one of {', '.join(get_args(Kind))}, "
                "so choose one of these words."
            )
        check_count(caller, "input_dimension", self.input_dimension, 1)
        most = {"orthogonal": self.input_dimension, "hadamard": self._width}
        check_count(caller, "dimension", self.dimension, 1, most.get(self.kind, math.inf))
        check_count(caller, "seed", self.seed, 0)
        if self.nonzeros is not None:
            if self.kind != "sparse":
                raise ValueError(
                    f"{caller}: got nonzeros={self.nonzeros} with kind={self.kind!r}; only sparse "
                    "projection has it, so leave it out or choose kind='sparse'."
                )
            check_count(caller, "nonzeros", self.nonzeros, 1, self.dimension)

    @property
    def _width(self) -> int:
        return 1 << (self.input_dimension - 1).bit_length()

    @cached_property
    def matrix(self) -> NDArray[np.float64]:
        """A as a dense array (dimension, input_dimension)."""
        n, d = self.dimension, self.input_dimension
        rng = own_stream(self.seed)
        if self.kind == "gaussian":
            return np.asarray(rng.standard_normal((n, d)), np.float64) / math.sqrt(n)
        if self.kind == "rademacher":
            return _signs(rng, (n, d)) / math.sqrt(n)
        if self.kind == "orthogonal":
            return haar_rows(n, d, self.seed) * math.sqrt(d / n)
        if self.kind == "sparse":
            return self._sparse_matrix(rng)
        signs, chosen = self._hadamard_draw
        rows = hadamard_rows(chosen, self._width) * signs
        return rows[:, :d] / math.sqrt(n)

    def _sparse_matrix(self, rng: np.random.Generator) -> NDArray[np.float64]:
        n, d = self.dimension, self.input_dimension
        s = min(8, n) if self.nonzeros is None else self.nonzeros
        places = np.argpartition(rng.random((d, n)), s - 1, axis=1)[:, :s]
        matrix = np.zeros((n, d))
        matrix[places.T, np.arange(d)] = _signs(rng, (s, d)) / math.sqrt(s)
        return matrix

    @cached_property
    def _hadamard_draw(self) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
        rng = own_stream(self.seed)
        signs = _signs(rng, (self._width,))
        return signs, rng.choice(self._width, self.dimension, replace=False).astype(np.intp)

    @cached_property
    def _by_dtype(self) -> dict[torch.dtype, torch.Tensor]:
        return {}

    def _operand(self, dtype: torch.dtype) -> torch.Tensor:
        """A^T (input_dimension, dimension) in `dtype`, made once for each dtype."""
        if dtype not in self._by_dtype:
            transposed = np.ascontiguousarray(self.matrix.T)
            self._by_dtype[dtype] = torch.from_numpy(transposed).to(dtype)
        return self._by_dtype[dtype]

    def transform(self, X: Any) -> Any:  # noqa: ANN401 (the output is of the input's kind)
        """Rows of X (N, input_dimension) projected: X A^T (N, dimension).

        Takes a numpy array, a torch tensor, or a scipy sparse matrix; gives a tensor (same dtype
        and device) for a tensor, else an array. float64 is computed in float64, narrower floats
        in float32, and each keeps its dtype; integers become float64.

        Raises:
            TypeError: Not real numbers.
            ValueError: Wrong shape, NaN or infinity.
        """
        if hasattr(X, "tocsr"):
            return self._transform_sparse(X.tocsr())
        if isinstance(X, torch.Tensor) and X.device.type != "cpu" and X.is_floating_point():
            check_columns("RandomProjection.transform", tuple(X.shape), self.input_dimension)
            rows = X if X.dtype == torch.float64 else X.float()
        else:
            array = as_rows("RandomProjection.transform", X, self.input_dimension)
            rows = torch.from_numpy(np.ascontiguousarray(array))
        out = self._project(rows.detach())
        if isinstance(X, torch.Tensor):
            return out.to(X.dtype) if X.is_floating_point() else out
        projected = out.numpy()
        return projected.astype(np.float16) if np.asarray(X).dtype == np.float16 else projected

    def _transform_sparse(self, X: Any) -> NDArray[Any]:  # noqa: ANN401 (scipy is not imported)
        check_columns("RandomProjection.transform", X.shape, self.input_dimension)
        if self.kind == "hadamard":
            starts = range(0, max(1, X.shape[0]), _DENSIFY_ROWS)
            parts = [self.transform(X[i : i + _DENSIFY_ROWS].toarray()) for i in starts]
            return np.concatenate(parts)
        dtype = torch.float32 if X.dtype == np.float32 else torch.float64
        out = np.asarray(X @ self._operand(dtype).numpy())
        _refuse_infinite(torch.from_numpy(out))
        return out

    def _project(self, rows: torch.Tensor) -> torch.Tensor:
        if self.kind == "hadamard":
            scale = 1 / math.sqrt(self.dimension)
            out = sampled_hadamard(rows, *self._hadamard_draw, scale)
        else:
            out = rows @ self._operand(rows.dtype).to(rows.device)
        _refuse_infinite(out)
        return out


def _refuse_infinite(out: torch.Tensor) -> None:
    """Every entry of a row enters its projection, where NaN or infinity therefore shows.

    In the product with a zero entry of a sparse matrix, too: 0 times infinity is NaN.
    """
    if not bool(torch.isfinite(out.sum())) and not bool(torch.isfinite(out).all()):
        raise ValueError(
            "RandomProjection.transform: got NaN or infinity in the rows; wanted finite numbers, "
            "so drop or repair those rows first."
        )


def own_stream(seed: int) -> np.random.Generator:
    """The generator of a seed, apart from `numpy.random.default_rng(seed)`.

    Users draw test data with small seeds too; from one stream such data would be the very rows of
    the matrix, and no statement about random matrices would hold for them.
    """
    return np.random.default_rng((_STREAM, seed))


def _signs(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    return np.asarray(rng.integers(0, 2, shape) * 2.0 - 1.0, np.float64)


def hadamard_rows(chosen: NDArray[np.intp], width: int) -> NDArray[np.float64]:
    """The chosen rows of Sylvester's matrix of order `width`, (chosen, width), without the rest."""
    b = min(width, 64)
    outer = chosen // b
    columns = np.arange(width // b)
    parity = np.bitwise_count(outer[:, None] & columns[None, :]) & 1
    coarse = 1.0 - 2.0 * parity
    fine = hadamard_matrix(b)[chosen % b]
    return np.asarray(coarse[:, :, None] * fine[:, None, :], np.float64).reshape(-1, width)


def haar_rows(n: int, d: int, seed: int) -> NDArray[np.float64]:
    """The first n rows (n, d) of a Haar-distributed orthogonal matrix of order d, n <= d.

    QR of a Gaussian matrix, columns flipped so that R has a positive diagonal: without that the
    result is not Haar (Mezzadri 2007). The rows of one seed are nested in n up to rounding.

    >>> Q = haar_rows(3, 7, seed=0)
    >>> np.allclose(Q @ Q.T, np.eye(3))
    True
    """
    gaussian = own_stream(seed).standard_normal((n, d))
    Q, R = np.linalg.qr(gaussian.T)
    rows: NDArray[np.float64] = np.ascontiguousarray((Q * np.where(np.diag(R) < 0, -1.0, 1.0)).T)
    return rows


def inner_product_variance(x: NDArray[Any], y: NDArray[Any], dimension: int) -> float:
    """Var <Ax, Ay> of a gaussian projection to `dimension`: (|x|^2 |y|^2 + <x, y>^2)/dimension.

    >>> inner_product_variance(np.array([3.0, 0.0]), np.array([0.0, 2.0]), 9)
    4.0
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    return float((x @ x) * (y @ y) + (x @ y) ** 2) / dimension
