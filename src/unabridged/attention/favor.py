"""Softmax attention by random features: time and memory linear in the length, error known ahead."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from unabridged.attention.arguments import checked_scale
from unabridged.attention.features import Directions, Kind, Sampler, draw
from unabridged.attention.invariances import Cloud, Frame, Invariances, settle
from unabridged.attention.linear import FeatureMap, ratio_of_sums
from unabridged.attention.prefix import ratio_of_prefix_sums
from unabridged.attention.trigonometric import ratio_of_waves

__all__ = ["Favor"]

_CHOICES = {
    "kind": ("favor+", "favor++", "favor#", "trigonometric"),
    "directions": ("orthogonal", "independent", "paired"),
    "invariances": ("none", "keys", "centred", "monge"),
}
_FORESEEN = {"favor+": 0.0, "trigonometric": 0.0}


@dataclass(frozen=True)
class Favor:
    """Attention whose weights are means of products of random features.

    Laws: constant values come back as they are and outputs lie in the hull of the values, for any
    number of features (positive kinds); masked keys have no part in anything; heads and texts do
    not feel each other; shifts of all keys and, with "monge", changes of basis change nothing; a
    weight is unbiased with relative variance `predicted_variance` / m.

    That variance is e^{|q+k|²} - 1 at best for FAVOR+, with scaled q and k. Pretrained encoders
    have |q+k|² of 10 to 30, for which no affordable m is enough: there the exact and the multipole
    attention are the tools, and this one is for models that were trained or adapted with it.

    Attributes:
        features: m of one draw.
        kind: which map; see `features`. "trigonometric" has weights of either sign, and is refused
            as soon as a denominator is not clear of zero.
        directions: how the random directions depend on each other; see `draw`.
        invariances: what is done before, exactly; see `settle`. All but "none" look at the texts,
            so they cannot be causal.
        redraws: how many draws are averaged, numerators and denominators apart, before dividing.
        seed: of the draws.
        spread: for "favor++", the mean |q+k|² foreseen; None looks at the texts.

    For training, `Favor(kind="favor+", invariances="none")` looks at nothing, and "keys" only at
    the mean key. What is looked at carries no gradient: the other settings are other samplers of
    the same integral, so a gradient through their choice would be a gradient of noise.

    >>> q, k = torch.eye(3).expand(1, 2, 3, 3), torch.eye(3).expand(1, 2, 3, 3)
    >>> Favor()(q, k, torch.ones(1, 2, 3, 1)).flatten().tolist()
    [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]

    Reference: Choromanski et al. (2021), Rethinking attention with performers; Likhosherstov et
    al. (2022), Chefs' random tables (FAVOR++); Likhosherstov et al. (2023), FAVOR#. Departures:
    exact invariances first; two-sided stabilisation without an added constant (`linear`).
    """

    features: int = 256
    kind: Kind = "favor#"
    directions: Directions = "orthogonal"
    invariances: Invariances = "monge"
    redraws: int = 1
    seed: int = 0
    spread: float | None = None

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"Favor: {name} is {getattr(self, name)!r}; it must be one of "
                    f"{', '.join(choices)}, so pass one of them."
                )
        for name in ("features", "redraws"):
            if getattr(self, name) < 1:
                raise ValueError(f"Favor: {name} is {getattr(self, name)}; it must be at least 1.")
        if self.directions == "paired" and self.features % 2:
            raise ValueError(
                f"Favor: {self.features} features cannot be paired; pass an even number."
            )
        if self.spread is not None and (self.kind != "favor++" or not 0 <= self.spread < math.inf):
            raise ValueError(
                f"Favor: spread is {self.spread} with kind {self.kind!r}; it must be a number not "
                "below 0 and goes with 'favor++' only, so leave it None."
            )

    def __call__(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        key_mask: Tensor | None = None,
        causal: bool = False,
        scale: float | None = None,
    ) -> Tensor:
        """Mixed values; see `Attention`.

        Raises:
            ValueError: if shapes do not fit, or the settings cannot be causal.
            TypeError: if dtypes differ or the mask is not bool.
            ArithmeticError: if a denominator of trigonometric features is not clear of zero.
        """
        factor = checked_scale(query, key, value, key_mask=key_mask, scale=scale, caller="Favor")
        if causal:
            self._check_causal()
        work = torch.float64 if query.dtype == torch.float64 else torch.float32
        heads = _Heads.of(query.to(work), key.to(work), key_mask, factor, self)
        sides = (x.flatten(0, 1) for x in (*heads.seen_keys(), value.to(work)))
        rows = heads.queries.points.flatten(0, 1)
        if self.kind == "trigonometric":
            mixed = ratio_of_waves(self._map(heads), rows, *sides)
        elif causal:
            mixed = ratio_of_prefix_sums(self._map(heads), rows, *sides)
        else:
            mixed = ratio_of_sums(self._map(heads), rows, *sides)
        return mixed.reshape(*query.shape[:3], value.shape[3]).to(query.dtype)

    def predicted_variance(
        self,
        query: Tensor,
        key: Tensor,
        *,
        key_mask: Tensor | None = None,
        scale: float | None = None,
    ) -> Tensor:
        """What the weights will vary by, from means and covariances alone, before running.

        Args:
            query: (B, H, Nq, D).
            key: (B, H, Nk, D).
            key_mask: (B, Nk) bool.
            scale: None for 1 / sqrt(D).

        Returns:
            (B, H) float64: relative variance of one independent feature at the typical pair, that
            is, e to the mean of log(1 + relative variance) over all pairs, less 1. Divided by
            m = features · redraws it is that of a weight; orthogonal and paired directions do not
            do worse.

        Raises:
            ValueError: if shapes do not fit, or for trigonometric features, whose variance has no
                such form.
        """
        factor = checked_scale(query, key, key, key_mask=key_mask, scale=scale, caller="Favor")
        if self.kind == "trigonometric":
            raise ValueError(
                "predicted_variance: kind is 'trigonometric', whose variance at |q-k|² = t is "
                "e^t (1 - e^-t)² / 2 and has no mean in closed form; ask one of the positive kinds."
            )
        heads = _Heads.of(query, key, key_mask, factor, self)
        return heads.sampler().log_variance(heads.second_moment()).expm1()

    def redrawn(self, seed: int) -> Favor:
        """The same settings with other random directions."""
        return replace(self, seed=seed)

    @property
    def _foreseen(self) -> float | None:
        """E|q+k|² that the sampler is made for; None where it is measured."""
        return self.spread if self.kind == "favor++" else _FORESEEN.get(self.kind)

    @torch.no_grad()
    def _map(self, heads: _Heads) -> FeatureMap:
        drawn = draw(
            self.features,
            heads.width,
            directions=self.directions,
            seed=self.seed,
            redraws=self.redraws,
        )
        directions, importance = heads.sampler().features(drawn.to(heads.queries.points.device))
        return heads.map(directions, importance.unsqueeze(-2))

    def _check_causal(self) -> None:
        looks = self.invariances != "none" or self._foreseen is None
        if looks or self.kind == "trigonometric":
            raise ValueError(
                f"Favor: kind {self.kind!r} with invariances {self.invariances!r} looks at the "
                "whole text and cannot be causal; pass invariances='none' with kind='favor+', or "
                "'favor++' and a spread."
            )


@dataclass(frozen=True, eq=False)
class _Heads:
    """Queries and keys of a call, and the frame they are looked at from.

    The root of the scale goes to either side, so that |q| and |k| are of one size.
    """

    queries: Cloud
    keys: Cloud
    frame: Frame
    settings: Favor

    @staticmethod
    def of(
        query: Tensor, key: Tensor, key_mask: Tensor | None, factor: float, settings: Favor
    ) -> _Heads:
        """As many queries as keys are taken to be the same tokens, and masked together.

        Where they are not, the statistics are those of other queries, which is as exact.
        """
        root = abs(factor) ** 0.5
        rows = key_mask if query.shape[2] == key.shape[2] else None
        queries = Cloud(query, rows, math.copysign(root, factor))
        keys = Cloud(key, key_mask, root)
        return _Heads(queries, keys, settle(queries, keys, settings.invariances), settings)

    @property
    def width(self) -> int:
        """D."""
        return self.queries.points.shape[3]

    def second_moment(self) -> Tensor:
        """(B, H, D, D) float64 of the sums q + k."""
        return self.frame.second_moment(self.queries, self.keys)

    def sampler(self) -> Sampler:
        """How the features of every head are drawn."""
        foreseen = self.settings._foreseen
        if foreseen is None:
            return Sampler.of(self.settings.kind, self.second_moment())
        spread = self.queries.points.new_full((1, 1, 1), foreseen, dtype=torch.float64)
        return Sampler.isotropic(spread, self.width)

    def map(self, directions: Tensor, offset: Tensor) -> FeatureMap:
        """The frame of the queries goes into their directions: queries themselves stay put."""
        query_directions = directions
        if self.frame.query_basis is not None:
            query_directions = directions @ self.frame.query_basis
        if self.frame.query_shift is not None:
            offset = offset - self.frame.query_shift @ query_directions.mT
        sides = self.queries.scale * query_directions, directions, offset
        batch, heads, _, _ = self.queries.points.shape
        dtype = self.queries.points.dtype
        return FeatureMap(*(x.to(dtype).expand(batch, heads, -1, -1).flatten(0, 1) for x in sides))

    def seen_keys(self) -> tuple[Tensor, Tensor]:
        """Keys as seen from the frame, and their logarithmic weights, -inf where masked."""
        key, shifted = self.frame.keys(self.keys.scale * self.keys.points)
        sign = 0.5 if self.settings.kind == "trigonometric" else -0.5
        log_weight = sign * key.square().sum(-1, keepdim=True)
        if shifted is not None:
            log_weight = log_weight + shifted
        if self.keys.real is not None:
            log_weight = log_weight.masked_fill(~self.keys.real[:, None, :, None], -torch.inf)
        return key, log_weight
