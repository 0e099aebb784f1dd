"""Slow and obvious: distances between Gaussians from their textbook formulas, in 50 digits.

The float64 entries are taken as exact. Also the families of random pairs on which accuracy is
judged, since tests and benchmark must judge on the same ones.
"""

from __future__ import annotations

import mpmath
import torch
from mpmath import mp

mp.dps = 50

NAMES = ("kl", "jeffreys", "bhattacharyya", "wasserstein2")
FAMILIES = ("relative", "added", "absolute", "scaled", "independent")


def exact(tensor):
    """A tensor of one or two axes as an mpmath matrix, bit for bit."""
    return mp.matrix(tensor.double().tolist())


def log_determinant(matrix):
    factor = mp.cholesky(matrix)
    return 2 * sum(mp.log(factor[i, i]) for i in range(matrix.rows))


def trace(matrix):
    return sum(matrix[i, i] for i in range(matrix.rows))


def quadratic(inverse, vector):
    return (vector.T * inverse * vector)[0]


def kl(mean_p, cov_p, mean_q, cov_q):
    inverse, delta = cov_q**-1, mean_p - mean_q
    logs = log_determinant(cov_p) - log_determinant(cov_q)
    return (trace(inverse * cov_p) - cov_p.rows - logs + quadratic(inverse, delta)) / 2


def jeffreys(*arguments):
    return kl(*arguments) + kl(*arguments[2:], *arguments[:2])


def bhattacharyya(mean_p, cov_p, mean_q, cov_q):
    middle, delta = (cov_p + cov_q) / 2, mean_p - mean_q
    logs = log_determinant(middle) - (log_determinant(cov_p) + log_determinant(cov_q)) / 2
    return logs / 2 + quadratic(middle**-1, delta) / 8


def wasserstein2(mean_p, cov_p, mean_q, cov_q):
    factor, delta = mp.cholesky(cov_p), mean_p - mean_q
    values = mp.eigsy(factor.T * cov_q * factor, eigvals_only=True)
    fidelity = sum(mp.sqrt(value) for value in values)
    return trace(cov_p) + trace(cov_q) - 2 * fidelity + (delta.T * delta)[0]


def distances(mean_p, cov_p, mean_q, cov_q):
    """Name -> 50-digit value, for one pair of tensors."""
    arguments = [exact(tensor) for tensor in (mean_p, cov_p, mean_q, cov_q)]
    return {name: globals()[name](*arguments) for name in NAMES}


def relative_error(value, truth):
    return float(abs(mpmath.mpf(float(value)) - truth) / abs(truth))


def symmetric(matrix):
    return (matrix + matrix.mT) / 2


def spectrum(d, condition, generator):
    """Eigenvalues between 1 and 1 / condition, both ends taken."""
    exponents = torch.rand(d, generator=generator, dtype=torch.float64)
    exponents[0] = 0.0
    exponents[-1] = 1.0
    return condition**-exponents


def rotated(values, generator):
    basis, _ = torch.linalg.qr(torch.randn(len(values), len(values), generator=generator).double())
    return basis, symmetric(basis * values @ basis.mT)


def random_pair(d, *, condition, difference, family, generator):
    """(mean_p, cov_p, mean_q, cov_q) whose covariances differ relatively by about `difference`.

    relative: Sp = L (I + difference E) L'; added: a random covariance on top; absolute: any
    symmetric difference that leaves Sp positive; scaled: Sp = (1 + difference) Sq; independent:
    nothing in common. Means are equal.
    """
    noise = torch.randn(d, d, generator=generator, dtype=torch.float64) / d**0.5
    _basis, cov_q = rotated(spectrum(d, condition, generator), generator)
    if family == "relative":
        roots = torch.linalg.cholesky(cov_q)
        cov_p = cov_q + min(difference, 0.3) * roots @ symmetric(noise) @ roots.mT
    elif family == "added":
        cov_p = cov_q + difference * noise @ noise.mT
    elif family == "absolute":
        cov_p = cov_q + min(difference, 0.3 / condition) * symmetric(noise)
    elif family == "scaled":
        cov_p = cov_q * (1 + difference)
    else:
        cov_p = rotated(spectrum(d, condition, generator), generator)[1]
    mean = torch.randn(d, generator=generator, dtype=torch.float64)
    return mean, symmetric(cov_p), mean, cov_q


def random_pairs(count, seed, *, largest_condition=6.0):
    """`count` pairs of mixed family, dimension 2 to 10, relative difference 1 down to 1e-8.

    The means of every second pair differ by the same share of a standard normal; those of the
    others are equal, so that they cannot hide an error of the covariances.
    """
    generator = torch.Generator().manual_seed(seed)
    for index in range(count):
        draws = torch.rand(3, generator=generator)
        difference = 10.0 ** (-8 * float(draws[2]))
        mean_p, cov_p, mean_q, cov_q = random_pair(
            2 + int(9 * draws[0]),
            condition=10.0 ** (largest_condition * float(draws[1])),
            difference=difference,
            family=FAMILIES[index % len(FAMILIES)],
            generator=generator,
        )
        shift = torch.randn(len(mean_p), generator=generator, dtype=torch.float64)
        yield mean_p + (index % 2) * difference * shift, cov_p, mean_q, cov_q
