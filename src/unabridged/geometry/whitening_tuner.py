"""Choosing a whitening without labels, and declining it where it does not help.

A text that is cut in two gives a question with a known answer: which of all the texts does this
half come from, and which is its other half? Candidates are scored by the mean reciprocal rank of
these retrievals, on texts that took no part in fitting the candidate (two folds): on texts that
did, whitening looks far worse than it is, because it pushes the fitted rows apart. The best
candidate must then beat doing nothing on further texts that took no part in choosing it, by more
than chance and by more than `MARGIN`; otherwise the answer is the identity.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray

from unabridged.geometry._arrays import as_matrix
from unabridged.geometry.moments import Moments
from unabridged.geometry.psd import Spectrum
from unabridged.geometry.recipe import Recipe
from unabridged.geometry.whitening import Whitening, spectrum_about

__all__ = ["Tuning", "default_candidates", "tune_whitening"]

MARGIN = 0.05
"""Gain in mean log-odds below which a whitening is not worth a change of the vectors."""

RESAMPLES = 400
CONFIDENCE = 0.95

Ranks = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Tuning:
    """What was chosen, and why.

    Attributes:
        whitening: fitted on all rows with the chosen recipe, or the identity.
        recipe: the chosen recipe, None for the identity.
        best: the candidate that scored best while choosing, accepted or not.
        gain: its score above the identity's on the pairs that took no part in choosing it.
        lower: lower end of the one-sided 95 % bootstrap interval of `gain`.
        scores: mean log-odds of the reciprocal ranks of every candidate, while choosing.
        identity_score: the same for the untouched vectors.
    """

    whitening: Whitening
    recipe: Recipe | None
    best: Recipe
    gain: float
    lower: float
    scores: tuple[tuple[Recipe, float], ...]
    identity_score: float


def default_candidates(width: int) -> tuple[Recipe, ...]:
    """Every combination of β 0, 1; γ 0 to 1; D, D/2 or D/4 dimensions; with and without shrinkage.

    >>> len(default_candidates(384))
    54
    """
    dimensions = (None, *sorted({max(1, width // 2), max(1, width // 4)} - {width}))
    grid = product((1.0, 0.0), (0.0, 0.25, 0.5, 0.75, 1.0), dimensions, ("none", "ledoit_wolf"))
    return tuple(
        Recipe(beta, gamma, dimension, "ledoit_wolf" if shrinkage == "ledoit_wolf" else "none")
        for beta, gamma, dimension, shrinkage in grid
        if gamma > 0 or shrinkage == "none"
    )


def tune_whitening(
    X: object,
    first: object,
    second: object,
    *,
    candidates: Sequence[Recipe] | None = None,
    most_pairs: int = 2000,
    seed: int = 0,
) -> Tuning:
    """Choose a whitening for the rows of `X` from their halves, without labels.

    Args:
        X: (N, D) vectors of whole texts, the ones to be searched later.
        first: (N, D) vectors of the first halves of the same texts, or of any texts that mean the
            same as the rows of `X` (questions, titles, translations).
        second: (N, D) vectors of the second halves, likewise. Rows with NaN in either are texts
            that could not be cut; they serve for fitting only.
        candidates: recipes to choose from; None takes `default_candidates`.
        most_pairs: texts that are asked about at most, drawn by `seed`; bounds time and memory.
        seed: of the draw, the folds and the bootstrap; equal seeds give equal choices.

    Raises:
        ValueError: if shapes differ or fewer than 16 texts can be asked about.
    """
    data = _Data.of(X, first, second, most_pairs, seed)
    recipes = tuple(candidates) if candidates is not None else default_candidates(data.width)
    if not recipes:
        raise ValueError("tune_whitening: candidates is empty; pass at least one Recipe, or None.")
    untouched = data.reciprocal_ranks(None)
    ranks = [data.reciprocal_ranks(recipe) for recipe in recipes]
    scores = [_score(r[:, data.choosing]) if r is not None else -np.inf for r in ranks]
    winner = int(np.argmax(scores))
    best, best_ranks = recipes[winner], ranks[winner]
    if best_ranks is None or untouched is None:
        gain = lower = -np.inf
    else:
        guard = ~data.choosing
        gain = _score(best_ranks[:, guard]) - _score(untouched[:, guard])
        lower = _lower_bound(best_ranks[:, guard], untouched[:, guard], seed)
    accepted = lower > 0 and gain > MARGIN
    return Tuning(
        _Fitting(data.everything).fit(best) if accepted else Whitening.identity(data.width),
        best if accepted else None,
        best,
        float(gain),
        float(lower),
        tuple(zip(recipes, scores, strict=True)),
        _score(untouched[:, data.choosing]) if untouched is not None else -np.inf,
    )


class _Fitting:
    """Many whitenings of the same moments, one eigendecomposition for each beta."""

    def __init__(self, moments: Moments) -> None:
        self.moments = moments
        self.spectra: dict[float, Spectrum] = {}

    def fit(self, recipe: Recipe) -> Whitening:
        """The whitening by this recipe.

        Raises:
            ValueError: if there are too few rows or directions for it.
        """
        if recipe.beta not in self.spectra:
            self.spectra[recipe.beta] = spectrum_about(self.moments, recipe.beta)
        with warnings.catch_warnings():
            # An overfitted candidate shows in its score; it needs no warning.
            warnings.filterwarnings("ignore", message="Whitening: .* samples for")
            return Whitening.from_spectrum(self.moments, self.spectra[recipe.beta], recipe)


@dataclass(frozen=True, slots=True, eq=False)
class _Data:
    """Two folds of texts with their halves; moments of each fold for candidates of the other."""

    folds: tuple[tuple[torch.Tensor, torch.Tensor, torch.Tensor], ...]
    fitting: tuple[_Fitting, ...]  # fitting[i] comes from the texts outside folds[i]
    everything: Moments
    choosing: NDArray[np.bool_]  # over all texts asked about, folds concatenated
    width: int

    @classmethod
    def of(cls, X: object, first: object, second: object, most_pairs: int, seed: int) -> _Data:
        caller = "tune_whitening"
        whole = as_matrix(X, caller=caller)
        width = whole.shape[1]
        a = as_matrix(first, caller=caller, name="first", width=width)
        b = as_matrix(second, caller=caller, name="second", width=width)
        if not len(whole) == len(a) == len(b):
            raise ValueError(
                f"{caller}: X has {len(whole)} rows, first {len(a)} and second {len(b)}; all must "
                "be of the same texts in the same order, with NaN where a text has no half."
            )
        rng = np.random.default_rng(seed)
        # Texts that occur twice would stand on both sides of a fold.
        group = _numbered(whole)
        side = rng.permutation(group.max() + 1 if len(group) else 0)[group] % 2
        usable = (torch.isfinite(a) & torch.isfinite(b)).all(dim=1).numpy()
        usable &= np.isin(np.arange(len(group)), np.unique(group, return_index=True)[1])
        if usable.sum() < 16:
            raise ValueError(
                f"{caller}: only {int(usable.sum())} different texts have two halves; at least 16 "
                "are needed, and some hundreds for a choice above chance, so pass more texts."
            )
        asked = [
            rng.permutation(np.flatnonzero(usable & (side == s)))[: most_pairs // 2] for s in (0, 1)
        ]
        sides = [Moments.of(whole[torch.from_numpy(side == s)]) for s in (0, 1)]
        indices = [torch.from_numpy(i) for i in asked]
        return cls(
            tuple((whole[i], a[i], b[i]) for i in indices),
            (_Fitting(sides[1]), _Fitting(sides[0])),
            sides[0] + sides[1],
            np.concatenate([np.arange(len(i)) % 2 == 0 for i in asked]),
            width,
        )

    def reciprocal_ranks(self, recipe: Recipe | None) -> Ranks | None:
        """(4, texts): half to other half both ways, half to whole both ways; None if no fit."""
        parts = []
        for (whole, a, b), fitting in zip(self.folds, self.fitting, strict=True):
            try:
                fitted = Whitening.identity(self.width) if recipe is None else fitting.fit(recipe)
            except ValueError:  # a candidate for which a fold has too few rows or directions
                return None
            w, p, q = (_unit(fitted.transform(rows.float())) for rows in (whole, a, b))
            tasks = ((p, q), (q, p), (p, w), (q, w))
            parts.append(np.stack([_reciprocal_ranks(x, y) for x, y in tasks]))
        return np.concatenate(parts, axis=1)


def _numbered(rows: torch.Tensor) -> NDArray[np.int64]:
    """For every row the number of its value: equal rows, equal numbers."""
    seen: dict[bytes, int] = {}
    values = rows.double().numpy()
    return np.array([seen.setdefault(row.tobytes(), len(seen)) for row in values], dtype=np.int64)


def _unit(rows: object) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.as_tensor(rows), dim=1)


def _reciprocal_ranks(queries: torch.Tensor, answers: torch.Tensor) -> Ranks:
    """1 / rank of answer i for query i by cosine; ties count half, so that zeros win nothing."""
    similarity = queries @ answers.T
    own = similarity.diagonal()[:, None]
    above = (similarity > own).sum(dim=1)
    tied = (similarity == own).sum(dim=1) - 1
    ranks: Ranks = (1.0 / (1.0 + above + tied / 2)).numpy()
    return ranks


def _score(ranks: Ranks) -> float:
    """Mean over both kinds of task of the log-odds of the mean reciprocal rank.

    Log-odds, because finding a whole by its half is nearly always right and finding the other half
    nearly always wrong: on the plain scale one of them would not count.
    """
    means = np.clip(ranks.mean(axis=1), 1e-6, 1 - 1e-6)
    return float(np.log(means / (1 - means)).mean())


def _lower_bound(ranks: Ranks, baseline: Ranks, seed: int) -> float:
    """One-sided bootstrap bound of the difference of scores, the same texts drawn for both."""
    rng = np.random.default_rng(seed)
    draws = rng.integers(0, ranks.shape[1], (RESAMPLES, ranks.shape[1]))
    gains = [_score(ranks[:, draw]) - _score(baseline[:, draw]) for draw in draws]
    return float(np.quantile(gains, 1 - CONFIDENCE))
