"""Truncated singular value decomposition by random range finding, with an error certificate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from unabridged.geometry._rows import check_count
from unabridged.geometry.matrix_products import MatrixProducts, matrix_products
from unabridged.geometry.random_projection import own_stream

__all__ = ["ErrorBound", "TruncatedSVD", "error_bound", "randomized_svd", "range_finder", "signed"]

Method = Literal["power", "krylov"]


@dataclass(frozen=True, eq=False)
class TruncatedSVD:
    """M ~ left diag(values) right.

    Attributes:
        left: orthonormal columns (n, k).
        values: descending, not negative (k,).
        right: orthonormal rows (k, d); the entry of largest modulus of each row is positive.
    """

    left: NDArray[Any]
    values: NDArray[Any]
    right: NDArray[Any]

    def matrix(self) -> NDArray[Any]:
        """The approximation as a dense array (n, d)."""
        return np.asarray((self.left * self.values) @ self.right)


@dataclass(frozen=True)
class ErrorBound:
    """What Gaussian probes say about the residual M - M~.

    Attributes:
        spectral: at least the spectral norm of the residual, with probability 1 - 10^-probes.
        frobenius: unbiased estimate (of the square) of its Frobenius norm.
        frobenius_upper: at least that norm, with probability 1 - 10^-probes.
        probes: number of products with random vectors.
    """

    spectral: float
    frobenius: float
    frobenius_upper: float
    probes: int


def range_finder(
    M: object, size: int, *, power: int = 2, method: Method = "power", seed: int = 0
) -> NDArray[Any]:
    """Orthonormal Q (n, size) whose span nearly holds the columns of M (Halko 2011, 4.1, 4.4).

    Q = orth((M M^T)^power M Omega) with Gaussian Omega; "krylov" keeps the span of all the powers
    0 to `power` (Musco and Musco 2015), `size` columns each. Never M Q Q^T with a raw Gaussian Q:
    that has relative error sqrt((n + 1)/k).

    Args:
        M: (n, d) array, tensor, sparse matrix, LinearOperator or RowBlocks.
        size: number of random vectors, at most min(n, d).
        power: rounds of power iteration, at least 0.
        method: "power" or "krylov".
        seed: integer.

    >>> M = np.outer(np.arange(5.0), np.arange(7.0))
    >>> Q = range_finder(M, 1)
    >>> bool(np.allclose(Q @ (Q.T @ M), M))
    True
    """
    products = matrix_products("range_finder", M).turned()
    check_count("range_finder", "size", size, 1, min(products.shape))
    return _co_range(products, size, power, method, seed).numpy()


def randomized_svd(
    M: object,
    rank: int,
    *,
    oversampling: int = 10,
    power: int = 2,
    method: Method = "krylov",
    seed: int = 0,
) -> TruncatedSVD:
    """The `rank` largest singular values of M with their vectors, nearly (Halko et al. 2011).

    E|M - M~|_F <= sqrt(1 + k/(p - 1)) times the best possible without any power iteration, and much
    less with: every round multiplies the exponent of the singular values. The long side is never
    orthogonalised during the iteration: random vectors stand on the short side, products with M^T M
    read M once, and Ritz rotations keep the small directions apart from the large ones.

    Args:
        M: (n, d) array, tensor, sparse matrix, LinearOperator or RowBlocks.
        rank: k, at most min(n, d).
        oversampling: p, random vectors beyond the rank, cut to what the shape allows.
        power: rounds of power iteration, 2 (power + 1) products with M in all.
        method: "krylov" keeps the span of all rounds, for a final product that is power + 1 times
            as wide; "power" keeps the last round alone, with less memory and more error.
        seed: integer; equal seeds give equal results on one machine.

    Raises:
        TypeError: M is no matrix of real numbers, or a count is no integer.
        ValueError: Empty, NaN or infinity, rank above min(n, d), an unknown method.

    >>> M = np.random.default_rng(0).standard_normal((40, 5)) @ np.ones((5, 30))
    >>> svd = randomized_svd(M, 5)
    >>> bool(np.allclose(svd.matrix(), M))
    True
    """
    products = matrix_products("randomized_svd", M)
    check_count("randomized_svd", "rank", rank, 1, min(products.shape))
    check_count("randomized_svd", "oversampling", oversampling, 0)
    wide = products.shape[0] < products.shape[1]
    tall = products.turned() if wide else products
    size = min(rank + oversampling, tall.shape[1])
    V = _co_range(tall, size, power, method, seed)
    left, values, right = _finish(tall.times(V), V, rank)
    if wide:
        left, right = right.T, left.T
    return signed(left, values, right)


def signed(left: NDArray[Any], values: NDArray[Any], right: NDArray[Any]) -> TruncatedSVD:
    """The same factorisation with the signs that `TruncatedSVD` promises."""
    flip = np.sign(right[np.arange(len(right)), np.abs(right).argmax(axis=1)])
    flip[flip == 0] = 1
    return TruncatedSVD(left * flip, values, right * flip[:, None])


def error_bound(M: object, svd: TruncatedSVD, *, probes: int = 10, seed: int = 1) -> ErrorBound:
    """Bounds of |M - M~| from products with Gaussian vectors, without forming the residual.

    Spectral: 10 sqrt(2/pi) max |(M - M~) w_i| (Halko et al. 2011, 4.3). Frobenius: mean of
    |(M - M~) w_i|^2 is unbiased for the square; divided by the 10^-probes quantile of
    chi-square(probes)/probes it is an upper bound, exact for a residual of rank one, which is the
    worst (Roosta-Khorasani, Szekely and Ascher 2015). Nothing cancels, unlike in |M|^2 - |M~|^2.

    Args:
        M: what was factorised.
        svd: its approximation.
        probes: number of Gaussian vectors; each makes failure ten times rarer.
        seed: must differ from that of the factorisation.
    """
    products = matrix_products("error_bound", M)
    check_count("error_bound", "probes", probes, 1)
    shape = (len(svd.left), svd.right.shape[1])
    if products.shape != shape:
        raise ValueError(
            f"error_bound: got a matrix of shape {products.shape} and a factorisation of {shape}; "
            "wanted equal shapes, so pass the matrix that was factorised."
        )
    W = _gaussian(products.shape[1], probes, products.dtype, seed)
    residual = products.times(W).numpy() - svd.left @ (
        svd.values[:, None] * (svd.right @ W.numpy())
    )
    lengths = np.linalg.norm(residual.astype(np.float64), axis=0)
    mean_square = float(np.mean(lengths**2))
    return ErrorBound(
        10 * math.sqrt(2 / math.pi) * float(lengths.max()),
        math.sqrt(mean_square),
        math.sqrt(mean_square * probes / _chi_square_quantile(probes, 10.0**-probes)),
        probes,
    )


def _co_range(
    products: MatrixProducts, size: int, power: int, method: Method, seed: int
) -> torch.Tensor:
    """Orthonormal V (d, size) for the rows of M: orth((M^T M)^power M^T Omega)."""
    check_count("randomized_svd", "power", power, 0)
    if method not in ("power", "krylov"):
        raise ValueError(
            f"randomized_svd: got method={method!r}; wanted 'power' or 'krylov', "
            "so choose one of these words."
        )
    V = _orthonormal(products.transposed(_gaussian(products.shape[0], size, products.dtype, seed)))
    span = [V]
    for _ in range(power):
        image = products.gram(V)
        # Ritz vectors first: columns of graded length keep small directions from drowning in large.
        _, rotation = torch.linalg.eigh((V.T @ image + image.T @ V) / 2)
        V = _orthonormal(image @ rotation.flip(1))
        span.append(V)
    if method == "power":
        return V
    return _orthonormal(torch.cat(span[::-1], dim=1))


def _finish(
    W: torch.Tensor, V: torch.Tensor, rank: int
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Singular triples of W V^T, W (n, l) tall, V (d, l) orthonormal."""
    basis, R = _orthogonal_factor(W)
    U, values, Vh = torch.linalg.svd(R, full_matrices=False)
    left = basis(U[:, :rank])
    return left.numpy(), values[:rank].numpy(), (Vh[:rank] @ V.T).numpy()


def _orthogonal_factor(W: torch.Tensor) -> tuple[Any, torch.Tensor]:
    """W = Q R; Q as the function U to Q U.

    The columns of W are products with near singular vectors, so once scaled they are almost
    orthonormal and the Cholesky factor of their Gram matrix is as good as Householder's; where they
    are not, Householder's it is.
    """
    lengths = torch.linalg.vector_norm(W, dim=0)
    if bool((lengths > 0).all()):
        scaled = W / lengths
        gram = scaled.T @ scaled
        if float(torch.linalg.eigvalsh(gram)[0]) > 0.1:
            upper = torch.linalg.cholesky(gram, upper=True)
            solve = torch.linalg.solve_triangular
            return lambda U: scaled @ solve(upper, U, upper=True), upper * lengths
    Q, R = torch.linalg.qr(W)
    return lambda U: Q @ U, R


def _orthonormal(Y: torch.Tensor) -> torch.Tensor:
    Q: torch.Tensor = torch.linalg.qr(Y)[0]
    return Q


def _gaussian(rows: int, columns: int, dtype: torch.dtype, seed: int) -> torch.Tensor:
    check_count("randomized_svd", "seed", seed, 0)
    generator = torch.Generator().manual_seed(int(own_stream(seed).integers(1 << 62)))
    return torch.randn(rows, columns, dtype=dtype, generator=generator)


def _chi_square_quantile(freedom: int, tail: float) -> float:
    """The t with P(chi-square(freedom) <= t) = tail, by bisection in the logarithm."""
    half = torch.tensor(freedom / 2, dtype=torch.float64)
    low, high = -200.0, math.log(freedom)
    for _ in range(100):
        middle = (low + high) / 2
        if float(torch.special.gammainc(half, half.new_tensor(math.exp(middle) / 2))) < tail:
            low = middle
        else:
            high = middle
    return math.exp(high)
