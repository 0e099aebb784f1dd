"""The type `Gaussian`: a batch of normal distributions, full, diagonal or low rank + diagonal.

Shapes are those of torch.distributions: a batch shape, then one event dimension d. Distances,
transport and all-pairs tables live in `divergences`, `transport` and `pairwise`. Computation is in
float64, results come in the dtype of the arguments.

Axis legend, used in every file of this room: ... batch, d dimensions, r rank, n samples.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.distributions import (
    Distribution,
    Independent,
    LowRankMultivariateNormal,
    MultivariateNormal,
    Normal,
)

from unabridged.geometry._covariances import Covariance, Diagonal, Full, LowRank, broadcast
from unabridged.geometry._gaussian_checks import (
    check_factor,
    check_matrix,
    check_mean,
    check_variances,
    read,
)
from unabridged.geometry._shrinkage import Shrinkage, shrink_moments, shrink_samples

if TYPE_CHECKING:
    from unabridged.geometry.moments import Moments

__all__ = ["Gaussian", "GaussianLike", "as_gaussian"]


class Gaussian:
    """A batch of Gaussians N(mean, covariance).

    Singular covariances are welcome: a point mass, a document of fewer tokens than dimensions.
    Distances give inf where mathematics gives inf, and a number where it does not.

    Args:
        mean: (..., d) floating tensor or array.
        covariance: (..., d, d) symmetric positive semidefinite, same dtype and device. Batch shapes
            broadcast against each other.

    Raises:
        TypeError: if a tensor is not floating point, or dtypes or devices differ.
        ValueError: if shapes do not fit, values are not finite, or the covariance is not symmetric
            or has a negative eigenvalue beyond rounding.

    >>> p = Gaussian(torch.zeros(3), torch.eye(3))
    >>> p
    Gaussian(d=3, batch_shape=(), covariance=full, dtype=float32)
    >>> Gaussian.diagonal(torch.zeros(5, 3), torch.ones(3)).batch_shape
    torch.Size([5])
    """

    mean: Tensor
    structure: Covariance

    def __init__(self, mean: Tensor, covariance: Tensor) -> None:
        mean, covariance = read("Gaussian", mean=mean, covariance=covariance)
        check_mean(mean)
        self._fill(mean, Full(check_matrix(covariance, mean)))

    @classmethod
    def diagonal(cls, mean: Tensor, variances: Tensor) -> Gaussian:
        """Independent coordinates; every distance then costs O(d).

        Args:
            mean: (..., d).
            variances: (..., d), not negative.

        Raises:
            TypeError: as for `Gaussian`.
            ValueError: as for `Gaussian`.
        """
        mean, variances = read("Gaussian", mean=mean, variances=variances)
        check_mean(mean)
        check_variances(variances, mean)
        return cls._of(mean, Diagonal(variances))

    @classmethod
    def low_rank(cls, mean: Tensor, factor: Tensor, variances: Tensor | None = None) -> Gaussian:
        """Covariance U U' + diag(v), never formed as a d x d matrix where that can be avoided.

        Args:
            mean: (..., d).
            factor: (..., d, r), the U.
            variances: (..., d), the v, not negative; zero if not given.

        Raises:
            TypeError: as for `Gaussian`.
            ValueError: as for `Gaussian`.

        >>> p = Gaussian.low_rank(torch.zeros(2), torch.tensor([[3.0], [0.0]]), torch.ones(2))
        >>> p.covariance
        tensor([[10.,  0.],
                [ 0.,  1.]])
        """
        if variances is None:
            variances = torch.zeros_like(torch.as_tensor(mean))
        mean, factor, variances = read("Gaussian", mean=mean, factor=factor, variances=variances)
        check_mean(mean)
        check_factor(factor, mean)
        check_variances(variances, mean)
        return cls._of(mean, LowRank(factor, variances))

    @classmethod
    def from_samples(cls, samples: Tensor, *, shrinkage: Shrinkage = "none") -> Gaussian:
        """Mean and maximum-likelihood covariance of the rows, optionally shrunk.

        With n below d the result is low rank + diagonal and no d x d matrix is formed.

        Args:
            samples: (..., n, d) with n at least 1; one sample gives a point mass.
            shrinkage: "none", "ledoit_wolf" or "oas", towards a multiple of the identity.

        Raises:
            TypeError: if `samples` is not floating point.
            ValueError: if the shape or the shrinkage is unknown or a value is not finite.

        References: Ledoit & Wolf (2004), A well-conditioned estimator for large-dimensional
        covariance matrices; Chen, Wiesel, Eldar & Hero (2010), Shrinkage algorithms for MMSE
        covariance estimation, eq. 23.

        >>> p = Gaussian.from_samples(torch.tensor([[0.0, 1.0, 5.0], [2.0, 1.0, 5.0]]))
        >>> p, p.mean
        (Gaussian(d=3, batch_shape=(), covariance=low rank, dtype=float32), tensor([1., 1., 5.]))
        """
        (samples,) = read("Gaussian.from_samples", samples=samples)
        return cls._of(*shrink_samples(samples, shrinkage))

    @classmethod
    def from_moments(cls, moments: Moments, *, shrinkage: Shrinkage = "none") -> Gaussian:
        """The Gaussian of a stream that `Moments` has seen, covariance scatter / count, float64.

        Args:
            moments: with a count above 0.
            shrinkage: as for `from_samples`.

        Raises:
            ValueError: if the moments are empty or the shrinkage is unknown.
        """
        return cls(*shrink_moments(moments, shrinkage))

    @classmethod
    def from_distribution(cls, distribution: Distribution) -> Gaussian:
        """A MultivariateNormal, LowRankMultivariateNormal or Independent(Normal, 1) as `Gaussian`.

        Raises:
            TypeError: if it is another distribution.
        """
        if isinstance(distribution, LowRankMultivariateNormal):
            return cls.low_rank(distribution.loc, distribution.cov_factor, distribution.cov_diag)
        if isinstance(distribution, MultivariateNormal):
            # Made from a factor, the distribution knows its covariance only after rounding.
            if "covariance_matrix" in distribution.__dict__:
                return cls(distribution.loc, distribution.covariance_matrix)
            return cls.low_rank(distribution.loc, distribution.scale_tril)
        if (
            isinstance(distribution, Independent)
            and isinstance(distribution.base_dist, Normal)
            and distribution.reinterpreted_batch_ndims == 1
        ):
            base = distribution.base_dist
            return cls.diagonal(base.loc, base.scale.square())
        raise TypeError(
            f"Gaussian: got a {type(distribution).__name__}; a MultivariateNormal, "
            "LowRankMultivariateNormal or Independent(Normal, 1) is wanted, so convert it first."
        )

    def to_distribution(self) -> MultivariateNormal | LowRankMultivariateNormal:
        """The torch.distributions twin; it needs a positive definite covariance.

        Raises:
            ValueError: by torch, if the covariance is singular.
        """
        if isinstance(self.structure, LowRank) and bool((self.structure.variances > 0).all()):
            return LowRankMultivariateNormal(
                self.mean, self.structure.factor, self.structure.variances
            )
        return MultivariateNormal(self.mean, self.covariance)

    @property
    def covariance(self) -> Tensor:
        """(..., d, d) dense, differentiable."""
        return self.structure.dense().expand(*self.batch_shape, self.dimension, self.dimension)

    @property
    def variance(self) -> Tensor:
        """(..., d) the diagonal of the covariance."""
        return self.structure.variance().expand(self.mean.shape)

    @property
    def dimension(self) -> int:
        """The d of the space."""
        return self.mean.shape[-1]

    @property
    def batch_shape(self) -> torch.Size:
        """Shape of the batch, `()` for one Gaussian."""
        return self.mean.shape[:-1]

    @property
    def event_shape(self) -> torch.Size:
        """`(d,)`."""
        return self.mean.shape[-1:]

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of mean and covariance."""
        return self.mean.dtype

    @property
    def device(self) -> torch.device:
        """Device of mean and covariance."""
        return self.mean.device

    def __len__(self) -> int:
        """Number of Gaussians along the first batch axis."""
        if not self.batch_shape:
            raise TypeError("Gaussian: len() of a single Gaussian; add a batch axis first.")
        return self.batch_shape[0]

    def __getitem__(self, index: int | slice | Tensor | tuple[int | slice | None, ...]) -> Gaussian:
        """Index the batch as one would index a tensor of the batch shape."""
        full = self.expand(self.batch_shape)
        return full._map(lambda tensor: tensor[index], lambda tensor, _: tensor)

    def expand(self, batch_shape: tuple[int, ...]) -> Gaussian:
        """Views of the same Gaussians broadcast to a larger batch shape."""
        shape = tuple(batch_shape)
        return self._map(
            lambda tensor: tensor,
            lambda tensor, rank: tensor.expand(*shape, *tensor.shape[tensor.ndim - rank :]),
        )

    def flatten(self) -> Gaussian:
        """The same Gaussians with one batch axis; a single Gaussian becomes a batch of one."""
        count = self.batch_shape.numel()
        return self.expand(self.batch_shape)._map(
            lambda tensor: tensor,
            lambda tensor, rank: tensor.reshape(count, *tensor.shape[tensor.ndim - rank :]),
        )

    def to(self, target: torch.dtype | torch.device) -> Gaussian:
        """The same Gaussians in another dtype or on another device."""
        return self._map(lambda tensor: tensor.to(target), lambda tensor, _: tensor)

    def __repr__(self) -> str:
        kinds = {Full: "full", Diagonal: "diagonal", LowRank: "low rank"}
        return (
            f"Gaussian(d={self.dimension}, batch_shape={tuple(self.batch_shape)}, "
            f"covariance={kinds[type(self.structure)]}, dtype={str(self.dtype)[6:]})"
        )

    def _map(
        self, transform: Callable[[Tensor], Tensor], expand: Callable[[Tensor, int], Tensor]
    ) -> Gaussian:
        structure = self.structure.apply(transform, expand)
        return Gaussian._of(transform(expand(self.mean, 1)), structure)

    @classmethod
    def _of(cls, mean: Tensor, structure: Covariance) -> Gaussian:
        """From parts that are known to be good."""
        gaussian = cls.__new__(cls)
        gaussian._fill(mean, structure)
        return gaussian

    def _fill(self, mean: Tensor, structure: Covariance) -> None:
        shape = broadcast(mean.shape[:-1], structure.batch_shape)
        self.mean = mean.expand(*shape, mean.shape[-1])
        self.structure = structure


GaussianLike = Gaussian | Distribution
"""What every function of this room takes: a `Gaussian`, or a distribution that is one."""


def as_gaussian(gaussian: GaussianLike, *, caller: str, name: str) -> Gaussian:
    """The argument as a `Gaussian`.

    Raises:
        TypeError: if it is not Gaussian; the message opens with `caller` and `name`.
    """
    if isinstance(gaussian, Gaussian):
        return gaussian
    if isinstance(gaussian, Distribution):
        return Gaussian.from_distribution(gaussian)
    raise TypeError(
        f"{caller}: {name} is a {type(gaussian).__name__}; a Gaussian or a torch.distributions "
        "MultivariateNormal is wanted, so build one with Gaussian(mean, covariance)."
    )
