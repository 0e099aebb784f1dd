"""Divergences between Gaussians that compare densities: KL, Jeffreys, Bhattacharyya, Hellinger.

All are zero exactly where p = q, invariant under any invertible affine map, and inf where p and q
do not live on the same flat. They are written so that nothing cancels as p approaches q: the
difference of the covariances is formed first, and the logarithm is taken of one plus something.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from unabridged.geometry._covariances import Diagonal
from unabridged.geometry._dense_values import bhattacharyya_value, jeffreys_value, kl_value
from unabridged.geometry._diagonal import (
    diagonal_bhattacharyya,
    diagonal_jeffreys,
    diagonal_kl,
)
from unabridged.geometry._exact_products import two_sum
from unabridged.geometry._gradients import pseudo_inverse, safe_sqrt, with_gradient
from unabridged.geometry._low_rank import has_density_parts, low_rank_kl, mend
from unabridged.geometry._pairs import Pair, pair_up
from unabridged.geometry._roots import Root, quadratic, root
from unabridged.geometry.gaussian import GaussianLike

__all__ = ["bhattacharyya", "hellinger", "jeffreys", "kl"]

Rule = Callable[[Tensor, Tensor, Tensor], Tensor]


def kl(p: GaussianLike, q: GaussianLike) -> Tensor:
    """Kullback-Leibler divergence KL(p | q) in nats.

        KL = 1/2 [ sum (x_i - log(1 + x_i)) + |L^-1 (mu_p - mu_q)|^2 ],

    x the eigenvalues of L^-1 (Sp - Sq) L^-T, Sq = L L'. Diagonal pairs cost O(d); low rank plus
    positive diagonal goes by Woodbury in O(d r^2), and densely only where that would cancel.

    Args:
        p: batch shape broadcastable with that of q.
        q: same dimension, dtype and device.

    Returns:
        Broadcast batch shape, the caller's dtype; inf unless p and q have the same support.

    Raises:
        TypeError: if an argument is not Gaussian, or dtypes or devices differ.
        ValueError: if dimensions differ or batch shapes do not broadcast.

    >>> from unabridged.geometry.gaussian import Gaussian
    >>> p = Gaussian(torch.zeros(2), torch.eye(2))
    >>> q = Gaussian(torch.ones(2), torch.eye(2))
    >>> kl(p, q)
    tensor(1.)

    Reference: Kullback (1959), Information Theory and Statistics, chapter 9.
    """
    pair = pair_up(p, q, caller="kl")
    if _both_diagonal(pair):
        return _by_coordinates(pair, diagonal_kl)
    if has_density_parts(pair):
        values, doubtful = low_rank_kl(pair)
        return pair.shaped(mend(pair, values, doubtful, _dense_kl))
    return pair.shaped(_dense_kl(pair))


def jeffreys(p: GaussianLike, q: GaussianLike) -> Tensor:
    """Jeffreys' symmetric divergence KL(p | q) + KL(q | p), a sum of squares.

        J = 1/2 tr(Sp^-1 D Sq^-1 D) + 1/2 d' (Sp^-1 + Sq^-1) d,   D = Sp - Sq, d = mu_p - mu_q.

    Arguments, result and errors as for `kl`.

    >>> from unabridged.geometry.gaussian import Gaussian
    >>> p = Gaussian(torch.zeros(1), torch.eye(1))
    >>> jeffreys(p, Gaussian(torch.zeros(1), 2 * torch.eye(1)))
    tensor(0.2500)

    Reference: Jeffreys (1946), An invariant form for the prior probability.
    """
    pair = pair_up(p, q, caller="jeffreys")
    if _both_diagonal(pair):
        return _by_coordinates(pair, diagonal_jeffreys)
    return pair.shaped(_dense_jeffreys(pair))


def bhattacharyya(p: GaussianLike, q: GaussianLike) -> Tensor:
    """Bhattacharyya distance -log of the overlap integral of sqrt(p q).

        BD = -1/4 sum log(1 - z_i^2) + 1/8 d' S^-1 d,   S = (Sp + Sq) / 2,

    z the eigenvalues of S^-1/2 (Sp - Sq)/2 S^-1/2. Arguments, result and errors as for `kl`.

    >>> from unabridged.geometry.gaussian import Gaussian
    >>> p = Gaussian(torch.zeros(2), torch.eye(2))
    >>> bhattacharyya(p, Gaussian(torch.tensor([2.0, 0.0]), torch.eye(2)))
    tensor(0.5000)

    Reference: Kailath (1967), The divergence and Bhattacharyya distance measures in signal
    selection, eq. 39. z is our own variable; his determinants lose all digits as p approaches q.
    """
    return _bhattacharyya(pair_up(p, q, caller="bhattacharyya"))


def hellinger(p: GaussianLike, q: GaussianLike) -> Tensor:
    """Hellinger distance H = sqrt(1 - exp(-BD)), a metric between 0 and 1.

    It has a cone at p = q: the gradient there is the subgradient 0. Arguments and errors as for
    `kl`; the result is 1, not inf, where the supports differ.

    >>> from unabridged.geometry.gaussian import Gaussian
    >>> p = Gaussian(torch.zeros(2), torch.eye(2))
    >>> hellinger(p, p)
    tensor(0.)

    Reference: Hellinger (1909); H^2 is 1 minus the Bhattacharyya coefficient.
    """
    pair = pair_up(p, q, caller="hellinger")
    exact = Pair(pair.p, pair.q, pair.batch_shape, torch.float64)
    return safe_sqrt(-torch.expm1(-_bhattacharyya(exact))).to(pair.dtype)


def _both_diagonal(pair: Pair) -> bool:
    return isinstance(pair.p.structure, Diagonal) and isinstance(pair.q.structure, Diagonal)


def _by_coordinates(pair: Pair, rule: Rule) -> Tensor:
    return pair.shaped(rule(pair.p.variance, pair.q.variance, pair.delta))


def _dense_kl(pair: Pair) -> Tensor:
    with torch.no_grad():
        value = kl_value(pair.p_root, pair.q_root, pair.difference())
        value = value + quadratic(pair.q_root, pair.delta) / 2
        value = torch.where(pair.same_support(), value, torch.inf)
    return with_gradient(value, _kl_gradients, pair.p.covariance, pair.q.covariance, pair.delta)


def _kl_gradients(p: Tensor, q: Tensor, delta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """1/2 Sq^-1 D Sp^-1, -1/2 Sq^-1 (D + d d') Sq^-1, Sq^-1 d."""
    p_inverse, q_inverse = pseudo_inverse(p), pseudo_inverse(q)
    towards = (q_inverse @ delta.unsqueeze(-1)).squeeze(-1)
    relative = q_inverse @ (p - q)
    outer = towards.unsqueeze(-1) * towards.unsqueeze(-2)
    return relative @ p_inverse / 2, -(relative @ q_inverse + outer) / 2, towards


def _dense_jeffreys(pair: Pair) -> Tensor:
    with torch.no_grad():
        value = jeffreys_value(pair.p_root, pair.q_root, pair.difference())
        moved = quadratic(pair.p_root, pair.delta) + quadratic(pair.q_root, pair.delta)
        value = torch.where(pair.same_support(), value + moved / 2, torch.inf)
    covariances = pair.p.covariance, pair.q.covariance
    return with_gradient(value, _jeffreys_gradients, *covariances, pair.delta)


def _jeffreys_gradients(p: Tensor, q: Tensor, delta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    to_p = _kl_gradients(p, q, delta)
    to_q = _kl_gradients(q, p, -delta)
    return to_p[0] + to_q[1], to_p[1] + to_q[0], to_p[2] - to_q[2]


def _bhattacharyya(pair: Pair) -> Tensor:
    if _both_diagonal(pair):
        return _by_coordinates(pair, diagonal_bhattacharyya)
    with torch.no_grad():
        middle = _middle(pair)
        value = bhattacharyya_value(pair.p_root, pair.q_root, middle, pair.difference())
        value = value + quadratic(middle, pair.delta) / 8
        value = torch.where(pair.same_support(), value, torch.inf)
    covariances = pair.p.covariance, pair.q.covariance
    return pair.shaped(with_gradient(value, _bhattacharyya_gradients, *covariances, pair.delta))


def _middle(pair: Pair) -> Root:
    """The mean of the two covariances, factored."""
    head, error = two_sum(pair.p_root.head, pair.q_root.head)
    return root(head / 2, (error + pair.p_root.tail + pair.q_root.tail) / 2)


def _bhattacharyya_gradients(p: Tensor, q: Tensor, delta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """1/8 S^-1 D Sp^-1 and -1/8 S^-1 D Sq^-1, less 1/16 S^-1 d d' S^-1 each; 1/4 S^-1 d."""
    inverse = pseudo_inverse((p + q) / 2)
    towards = (inverse @ delta.unsqueeze(-1)).squeeze(-1)
    outer = towards.unsqueeze(-1) * towards.unsqueeze(-2) / 16
    relative = inverse @ (p - q) / 8
    return (
        relative @ pseudo_inverse(p) - outer,
        -(relative @ pseudo_inverse(q)) - outer,
        towards / 4,
    )
