"""How far to shrink a sample covariance towards a sphere: Ledoit-Wolf and OAS, from moments.

Both replace the covariance S (denominator N) by (1 - ρ) S + ρ (tr S / D) I, which moves only the
eigenvalues: λ → (1 - ρ) λ + ρ m. Both intensities ρ are computed from `Moments` alone, so they are
streamed, merged and saved with them; the data is never looked at twice.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from unabridged.geometry.moments import Moments

__all__ = ["Shrinkage", "ledoit_wolf", "oas", "shrinkage_intensity"]

Shrinkage = Literal["none", "ledoit_wolf", "oas"]


def ledoit_wolf(moments: Moments) -> float:
    """Ledoit-Wolf intensity ρ in [0, 1] for the covariance of `moments`.

        ρ = min(β², δ²) / δ²,  δ² = |S - m I|²_F / D,  β² = (Σ |x - μ|⁴ / N - |S|²_F) / (N D)

    >>> rng = np.random.default_rng(0)
    >>> few = Moments.of(rng.standard_normal((20, 5)) * [5, 1, 1, 1, 1])
    >>> many = Moments.of(rng.standard_normal((20_000, 5)) * [5, 1, 1, 1, 1])
    >>> ledoit_wolf(few) > 10 * ledoit_wolf(many)
    True

    Reference: Ledoit & Wolf (2004), A well-conditioned estimator for large-dimensional covariance
    matrices, lemmas 3.2 to 3.5; their b̄² is our β² before the minimum. `radial4` supplies the
    fourth moment.
    """
    d, n = moments.dimension, moments.count
    covariance = moments.covariance()
    frobenius = float(np.vdot(covariance, covariance))
    dispersion = frobenius - float(np.trace(covariance)) ** 2 / d
    if dispersion <= 0:  # already a sphere: any intensity gives the same matrix
        return 0.0
    noise = (moments.radial4 / n - frobenius) / n
    return float(np.clip(noise / dispersion, 0.0, 1.0))


def oas(moments: Moments) -> float:
    """Oracle approximating shrinkage intensity ρ in [0, 1], derived for Gaussian data.

        ρ = min(1, ((1 - 2/D) tr S² + tr² S) / ((N + 1 - 2/D) (tr S² - tr² S / D)))

    Reference: Chen, Wiesel, Eldar & Hero (2010), Shrinkage algorithms for MMSE covariance
    estimation, eq. 23. scikit-learn's OAS drops the two terms 2/D from the printed formula; so the
    two differ by O(1/D), and agree where D is large.
    """
    d, n = moments.dimension, moments.count
    covariance = moments.covariance()
    frobenius = float(np.vdot(covariance, covariance))
    square = float(np.trace(covariance)) ** 2
    dispersion = frobenius - square / d
    if dispersion <= 0:
        return 0.0
    intensity = ((1 - 2 / d) * frobenius + square) / ((n + 1 - 2 / d) * dispersion)
    return float(np.clip(intensity, 0.0, 1.0))


def shrinkage_intensity(moments: Moments, kind: Shrinkage) -> float:
    """The intensity ρ by its name; "none" is 0.

    Raises:
        ValueError: if the name is unknown.
    """
    if kind == "none":
        return 0.0
    if kind == "ledoit_wolf":
        return ledoit_wolf(moments)
    if kind == "oas":
        return oas(moments)
    raise ValueError(
        f"shrinkage_intensity: kind is {kind!r}; choose 'none', 'ledoit_wolf' or 'oas'."
    )
