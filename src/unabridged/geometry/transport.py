"""Optimal transport between Gaussians: W2, the Monge map, geodesics, barycenters.

Nothing here needs a density, so singular covariances are allowed throughout. Axis legend: ...
batch, d dimensions, N Gaussians.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unabridged.geometry._barycenter import BARYCENTER_TOLERANCE, barycenter_covariance
from unabridged.geometry._bures import displacement
from unabridged.geometry._covariances import Diagonal
from unabridged.geometry._diagonal import diagonal_wasserstein2
from unabridged.geometry._displacement_map import displacement_map
from unabridged.geometry._gradients import with_gradient
from unabridged.geometry._pairs import Pair, pair_up
from unabridged.geometry.gaussian import Gaussian, GaussianLike, as_gaussian

__all__ = ["AffineMap", "barycenter", "geodesic", "monge_map", "wasserstein2"]


def wasserstein2(p: GaussianLike, q: GaussianLike) -> Tensor:
    """Squared 2-Wasserstein (Bures) distance between two Gaussians.

        W2^2 = |mu_p - mu_q|^2 + tr(Sp + Sq - 2 (Sp^1/2 Sq Sp^1/2)^1/2)

    The trace is evaluated as |K Sq^1/2|_F^2 with I + K the optimal map, which does not cancel.
    Singular covariances and point masses are allowed.

    Args:
        p: batch shape broadcastable with that of q.
        q: same dimension, dtype and device.

    Returns:
        Broadcast batch shape, the caller's dtype. Smooth at p = q, unlike its root.

    Raises:
        TypeError: if an argument is not Gaussian, or dtypes or devices differ.
        ValueError: if dimensions differ or batch shapes do not broadcast.

    >>> p = Gaussian(torch.zeros(3), torch.eye(3))
    >>> q = Gaussian(torch.zeros(3), 4 * torch.eye(3))
    >>> wasserstein2(p, q)
    tensor(3.)

    Reference: Dowson & Landau (1982), The Frechet distance between multivariate normal
    distributions. Their d^2 is our return value; we do not take the root.
    """
    pair = pair_up(p, q, caller="wasserstein2")
    if _both_diagonal(pair):
        return pair.shaped(diagonal_wasserstein2(pair.p.variance, pair.q.variance, pair.delta))
    with torch.no_grad():
        value = displacement(pair.p_root, pair.q_root, pair.difference()).squared
        value = value + pair.delta.square().sum(-1)
    covariances = pair.p.covariance, pair.q.covariance
    return pair.shaped(with_gradient(value, _wasserstein2_gradients, *covariances, pair.delta))


def _wasserstein2_gradients(p: Tensor, q: Tensor, delta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The gradient of W2^2 in either covariance is I - T, T the map that starts there."""
    return -displacement_map(p, q), -displacement_map(q, p), 2 * delta


@dataclass(frozen=True, eq=False)
class AffineMap:
    """x -> matrix (x - source) + target, the optimal way from one Gaussian to another.

    Attributes:
        matrix: (..., d, d); symmetric positive semidefinite where the source has full rank.
        source: (..., d) mean of the first Gaussian.
        target: (..., d) mean of the second.
    """

    matrix: Tensor
    source: Tensor
    target: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Move points (..., d)."""
        moved = self.matrix @ (x - self.source).unsqueeze(-1)
        return moved.squeeze(-1) + self.target


def monge_map(p: GaussianLike, q: GaussianLike) -> AffineMap:
    """The map that carries p to q at least mean squared distance.

        T(x) = mu_q + Sp^-1/2 (Sp^1/2 Sq Sp^1/2)^1/2 Sp^-1/2 (x - mu_p),   T Sp T = Sq.

    Differentiable where p has full rank. On a singular p it is given on the support of p.

    Raises:
        TypeError: as for `wasserstein2`.
        ValueError: as for `wasserstein2`, or if p is concentrated on too few dimensions for any
            map to reach q.

    >>> p = Gaussian(torch.zeros(1), torch.eye(1))
    >>> monge_map(p, Gaussian(torch.ones(1), 9 * torch.eye(1)))(torch.tensor([2.0]))
    tensor([7.])

    Reference: Olkin & Pukelsheim (1982), The distance between two random vectors with given
    dispersion matrices.
    """
    pair = pair_up(p, q, caller="monge_map")
    source, target = pair.shaped(pair.p.mean), pair.shaped(pair.q.mean)
    if _full_rank(pair.p_root.support):
        k = displacement_map(pair.p.covariance, pair.q.covariance)
        eye = torch.eye(k.shape[-1], dtype=k.dtype, device=k.device)
        return AffineMap(pair.shaped(eye + k), source, target)
    matrix = _aligned(pair) @ pair.p_root.inverse
    reached = matrix @ pair.p_root.head @ matrix.mT
    miss = (reached - pair.q_root.head).abs().amax((-2, -1))
    if bool((miss > 1e-6 * pair.q_root.values[..., -1]).any()):
        raise ValueError(
            f"monge_map: p has rank {int(pair.p_root.rank.min())} in {pair.p.dimension} dimensions "
            "and no map carries it onto q; p must spread over the directions of q, so swap the two "
            "or use geodesic."
        )
    return AffineMap(pair.shaped(matrix), source, target)


def geodesic(p: GaussianLike, q: GaussianLike, t: float) -> Gaussian:
    """The Gaussian a share t of the way from p to q along the shortest path of W2.

    Means interpolate; covariances move as (I + tK) Sp (I + tK) with I + K the Monge map, so that
    W2(p, geodesic(p, q, t)) = t W2(p, q). Differentiable where p or q has full rank.

    Args:
        p: the start.
        q: the end.
        t: between 0 and 1.

    Raises:
        TypeError: as for `wasserstein2`.
        ValueError: as for `wasserstein2`, or if t is outside [0, 1].

    >>> p = Gaussian.diagonal(torch.zeros(1), torch.ones(1))
    >>> geodesic(p, Gaussian.diagonal(torch.ones(1), torch.tensor([9.0])), 0.5).variance
    tensor([4.])

    Reference: McCann (1997), A convexity principle for interacting gases, example 1.7.
    """
    if not 0.0 <= t <= 1.0:
        raise ValueError(f"geodesic: t is {t}; it must lie between 0 and 1, so clamp it.")
    pair = pair_up(p, q, caller="geodesic")
    mean = pair.shaped(torch.lerp(pair.p.mean, pair.q.mean, t))
    if _both_diagonal(pair):
        roots = torch.lerp(pair.p.variance.sqrt(), pair.q.variance.sqrt(), t)
        return Gaussian.diagonal(mean, pair.shaped(roots.square()))
    if _full_rank(pair.p_root.support):
        between = _moved(pair.p.covariance, pair.q.covariance, t)
    elif _full_rank(pair.q_root.support):
        between = _moved(pair.q.covariance, pair.p.covariance, 1 - t)
    else:
        factor = torch.lerp(pair.p_root.factor, _aligned(pair), t)
        between = factor @ factor.mT
    return Gaussian(mean, pair.shaped(between))


def barycenter(gaussians: GaussianLike, weights: Tensor | None = None) -> Gaussian:
    """The Gaussian of least weighted mean W2^2 to N given ones.

    Its covariance solves S = sum w_i (S^1/2 S_i S^1/2)^1/2, here by the fixed-point iteration of
    the averaged Monge maps; gradients come from the equation, not from the iterations.

    Args:
        gaussians: batch shape (N,).
        weights: (N,) not negative, normalised here to sum 1; equal if not given.

    Raises:
        TypeError: if the argument is not Gaussian.
        ValueError: if the batch is not (N,) with N at least 1, or the weights are negative, all
            zero, not finite, or of another shape.
        ArithmeticError: if the iteration has not settled, which singular covariances can cause.

    >>> p = Gaussian.diagonal(torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0], [9.0]]))
    >>> barycenter(p).variance
    tensor([4.])

    Reference: Alvarez-Esteban, del Barrio, Cuesta-Albertos & Matran (2016), A fixed-point approach
    to barycenters in Wasserstein space, theorem 4.2.
    """
    batch = as_gaussian(gaussians, caller="barycenter", name="gaussians")
    if len(batch.batch_shape) != 1 or len(batch) == 0:
        raise ValueError(
            f"barycenter: gaussians has batch shape {tuple(batch.batch_shape)}; it must be (N,) "
            "with N at least 1, so stack the Gaussians along one axis."
        )
    share = _weights(batch, weights)
    exact = batch.to(torch.float64)
    mean = (share.unsqueeze(-1) * exact.mean).sum(0)
    if isinstance(exact.structure, Diagonal):
        roots = (share.unsqueeze(-1) * exact.variance.sqrt()).sum(0)
        return Gaussian.diagonal(mean, roots.square()).to(batch.dtype)
    covariance = barycenter_covariance(exact.covariance, share, tolerance=BARYCENTER_TOLERANCE)
    return Gaussian(mean, covariance).to(batch.dtype)


def _weights(batch: Gaussian, weights: Tensor | None) -> Tensor:
    if weights is None:
        return torch.full((len(batch),), 1 / len(batch), dtype=torch.float64, device=batch.device)
    share = torch.as_tensor(weights).to(batch.device, torch.float64)
    good = share.shape == (len(batch),) and bool(torch.isfinite(share).all() & (share >= 0).all())
    if not good or not bool(share.sum() > 0):
        raise ValueError(
            f"barycenter: weights has shape {tuple(share.shape)} and must be ({len(batch)},), "
            "finite, not negative and not all zero, so pass one weight a Gaussian."
        )
    return share / share.sum()


def _both_diagonal(pair: Pair) -> bool:
    return isinstance(pair.p.structure, Diagonal) and isinstance(pair.q.structure, Diagonal)


def _full_rank(support: Tensor) -> bool:
    return bool(support.all())


def _moved(source: Tensor, target: Tensor, t: float) -> Tensor:
    """(I + tK) S (I + tK)."""
    k = displacement_map(source, target)
    step = torch.eye(k.shape[-1], dtype=k.dtype, device=k.device) + t * k
    return step @ source @ step.mT


def _aligned(pair: Pair) -> Tensor:
    """The factor of q turned to lie closest to that of p (Procrustes), without autograd."""
    left, _, right = torch.linalg.svd(pair.q_root.factor.mT @ pair.p_root.factor)
    turned: Tensor = pair.q_root.factor @ left @ right
    return turned
