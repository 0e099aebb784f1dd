"""The settings of a whitening, and the law that says whether there is data enough for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from unabridged.geometry.shrinkage import Shrinkage

__all__ = ["Basis", "Recipe", "held_out_factor"]

Basis = Literal["pca", "zca"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """Which whitening: the settings, apart from any data.

    Attributes:
        beta: share of the mean that is removed, 0 to 1.
        gamma: how much of the spread is evened out, 0 (none) to 1 (all).
        dimension: how many leading directions are kept; None keeps all.
        shrinkage: towards a sphere, for few samples: "none", "ledoit_wolf" or "oas".
        basis: "pca" gives K = `dimension` columns; "zca" rotates back, so that the result stays
            near its original and has D columns.

    >>> Recipe(gamma=0.5)
    Recipe(beta=1.0, gamma=0.5, dimension=None, shrinkage='none', basis='pca')
    """

    beta: float = 1.0
    gamma: float = 1.0
    dimension: int | None = None
    shrinkage: Shrinkage = "none"
    basis: Basis = "pca"

    def __post_init__(self) -> None:
        """Refuse settings that have no meaning, before any data is read."""
        for name, value in (("beta", self.beta), ("gamma", self.gamma)):
            if not 0.0 <= value <= 1.0:
                raise ValueError(
                    f"Recipe: {name} is {value}; it must lie between 0 and 1, "
                    "where 1 is full whitening and 0 leaves that part alone."
                )
        if self.dimension is not None and self.dimension < 1:
            raise ValueError(
                f"Recipe: dimension is {self.dimension}; it must be at least 1, or None for all."
            )
        for name, choice, choices in (
            ("shrinkage", self.shrinkage, get_args(Shrinkage)),
            ("basis", self.basis, get_args(Basis)),
        ):
            if choice not in choices:
                raise ValueError(f"Recipe: {name} is {choice!r}; choose one of {choices}.")


def held_out_factor(count: float, dimension: int) -> float:
    """Mean squared length per dimension of unseen Gaussian rows after full whitening; 1 at best.

        E|x̃|² / D = (1 + 1/N) (N - 1) / (N - D - 2),   infinite where N ≤ D + 2

    2.0 at N = 2 D and 1.35 at N = 4 D: below that the whitening is visibly fitted to its sample.
    The moments of the inverse Wishart distribution, with the covariance's denominator N - 1.

    >>> [round(held_out_factor(n, 384), 3) for n in (500, 768, 1500, 5000)]
    [4.386, 2.01, 1.346, 1.084]
    """
    if count <= dimension + 2:
        return float("inf")
    return (1 + 1 / count) * (count - 1) / (count - dimension - 2)
