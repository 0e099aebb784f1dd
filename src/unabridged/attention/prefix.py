"""The causal form of `linear`: every query sees the sums over the keys up to its own.

Chunks are taken in order. c grows with the keys, and the sums shrink with it, as the maximum does
in an online softmax: a key of the future, however large, cannot push what came before it out of the
numbers. Within a chunk c looks ahead a little; rows that lose everything by that are found by
their denominator and done again in logarithms.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unabridged.attention.linear import FeatureMap, nonzero, starting_ceiling, with_ones

__all__ = ["ratio_of_prefix_sums"]

_ALL = slice(None)


def ratio_of_prefix_sums(
    maps: FeatureMap,
    query: Tensor,
    key: Tensor,
    log_weight: Tensor,
    value: Tensor,
    *,
    chunk: int = 128,
) -> Tensor:
    """As `ratio_of_sums`, query i over keys 0 to i + k - n only; zero where it sees none.

    Args:
        maps: carries no gradient.
        query: (G, n, d).
        key: (G, k, d).
        log_weight: (G, k, 1); -inf for a masked key.
        value: (G, k, v).
        chunk: rows taken together.

    Returns:
        (G, n, v), differentiable by autograd.
    """
    ones = with_ones(value)
    n, ahead = query.shape[1], key.shape[1] - query.shape[1]
    seen = (log_weight.detach() > -torch.inf).cumsum(1) > 0
    past = _Past(starting_ceiling(maps), key.new_zeros(*maps.directions.shape[:2], ones.shape[-1]))
    for at in range(0, max(ahead, 0), chunk):
        columns = slice(at, min(at + chunk, ahead))
        logs = maps.key_logs(key[:, columns], log_weight[:, columns], _ALL)
        past = past.risen(logs).with_keys(logs, ones[:, columns])
    mixed = [query.new_zeros(query.shape[0], max(-ahead, 0), value.shape[2])]
    for at in range(max(-ahead, 0), n, chunk):
        rows = slice(at, min(at + chunk, n))
        columns = slice(rows.start + ahead, rows.stop + ahead)
        logs = maps.key_logs(key[:, columns], log_weight[:, columns], _ALL)
        here = _Chunk(maps, query[:, rows], logs, ones[:, columns])
        both = here.mixed(past, seen[:, columns])
        mixed.append(both[..., :-1] / nonzero(both[..., -1:]))
        past = past.risen(logs).with_keys(logs, ones[:, columns])
    return torch.cat(mixed, dim=1)


@dataclass(frozen=True, eq=False)
class _Past:
    """c (G, 1, m) and Σ_j e^{b_j - c} (v_j, 1), (G, m, v + 1), over the keys so far."""

    ceiling: Tensor
    sums: Tensor

    def risen(self, logs: Tensor) -> _Past:
        """The same sums under a c that covers these keys too."""
        ceiling = torch.maximum(self.ceiling, logs.detach().amax(1, keepdim=True))
        return _Past(ceiling, self.sums * (self.ceiling - ceiling).exp().mT)

    def with_keys(self, logs: Tensor, ones: Tensor) -> _Past:
        """With keys that c covers."""
        return _Past(self.ceiling, self.sums + (logs - self.ceiling).exp().mT @ ones)


@dataclass(frozen=True, eq=False)
class _Chunk:
    """Queries and the log features of as many keys; row i sees keys 0 to i and the past."""

    maps: FeatureMap
    query: Tensor
    logs: Tensor
    ones: Tensor

    def mixed(self, past: _Past, seen: Tensor) -> Tensor:
        """(G, n, v + 1) numerators and denominators, each row up to one factor of its own."""
        now = past.risen(self.logs)
        features = self.maps.query_logs(self.query, now.ceiling, _ALL).exp()
        near = (features @ (self.logs - now.ceiling).exp().mT).tril()
        both = features @ now.sums + near @ self.ones
        lost = (both.detach()[..., -1:] < torch.finfo(both.dtype).eps ** 4) & seen
        if not bool(lost.any()):
            return both
        again = torch.stack(
            [
                self._in_logarithms(past, g) if bool(lost[g].any()) else both[g]
                for g in range(len(lost))
            ]
        )
        return torch.where(lost, again, both)

    def _in_logarithms(self, past: _Past, g: int) -> Tensor:
        """(n, v + 1) of head g, with a scale of its own for every pair of a query and a key."""
        head = slice(g, g + 1)
        least = torch.finfo(self.logs.dtype).min / 8
        directions = self.maps.query_directions[head].mT
        raw = torch.baddbmm(self.maps.offset[head], self.query[head], directions)[0]
        behind = raw + past.ceiling[g]
        behind_top = behind.detach().amax(-1, keepdim=True)
        pairs = raw[:, None] + self.logs[g].clamp_min(least)
        scores = pairs.logsumexp(-1)
        i = torch.arange(len(scores), device=scores.device)
        scores = scores.masked_fill(i > i[:, None], least)
        top = torch.maximum(behind_top, scores.detach().amax(-1, keepdim=True))
        far = (behind - behind_top).exp() @ past.sums[g] * (behind_top - top).exp()
        return far + (scores - top).exp() @ self.ones[g]
