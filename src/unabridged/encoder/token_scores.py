"""A linear function of a passage's vector as a sum over the passage's tokens.

A vector that is the mean of R token states, scaled to length 1 or not, is Σ_t h_t / (R n) with n
the length of the mean (1 where nothing is scaled). So ⟨w, vector⟩ = Σ_t ⟨w, h_t⟩ / (R n): exact,
and in the same units. It is an account of this vector and no counterfactual: n belongs to all
tokens together, and every state h_t has heard the other tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unabridged._errors import ModelError
from unabridged.encoder.long_encoder import _DOCUMENT_PROMPTS, LongEncoder
from unabridged.encoder.pooling import Head

__all__ = ["TokenScores", "can_score_tokens", "token_scores"]


@dataclass(frozen=True)
class TokenScores:
    """One passage; `own` and `special` sum to ⟨w, vector⟩.

    Attributes:
        own: (n,) float64, one for every token of the passage.
        special: of all special and prompt tokens together.
        rows: how many tokens were pooled, special ones included.
    """

    own: NDArray[np.float64]
    special: float
    rows: int


def can_score_tokens(encoder: LongEncoder) -> bool:
    """Whether an encoder's vectors are means of token states, scaled at most."""
    head = encoder._pipeline.head
    return head.modes == ("mean",) and not head.modules


def token_scores(
    encoder: LongEncoder, text: str, direction: NDArray[np.floating]
) -> list[TokenScores]:
    """Split ⟨direction, vector⟩ of every passage of a text over its tokens.

    Args:
        encoder: one that pools by the mean and has nothing but scaling after that.
        text: read as `encoder.read` reads it; passages are in the same order.
        direction: (D,) w above.

    Raises:
        ModelError: another pooling, or layers after it: no sum over tokens is exact then.

    >>> encoder = LongEncoder()
    >>> parts = token_scores(encoder, "a short text", np.eye(384)[5])
    >>> total = parts[0].own.sum() + parts[0].special
    >>> bool(abs(total - encoder.read("a short text").vectors[0, 5]) < 1e-6)
    True
    """
    pipeline = encoder._pipeline
    head = pipeline.head
    if not can_score_tokens(encoder):
        raise ModelError(
            f"token_scores: this model pools by {', '.join(head.modes)} with {len(head.modules)} "
            "layers after it; wanted the mean and none, so ask for passages instead."
        )
    reading = encoder.read(text)
    spans = reading.passage_tokens
    prefix, suffix = pipeline.tokenizer.specials
    prompt = encoder._named_prompt(_DOCUMENT_PROMPTS)
    around = len(prefix) + len(suffix) + (encoder.count_tokens(prompt) if prompt else 0)
    longest = int((spans[:, 1] - spans[:, 0]).max(initial=0)) + around
    scoring = _Scoring.of(head, torch.as_tensor(direction, dtype=torch.float64), longest)
    scored = next(replace(pipeline, head=scoring).read_many([text], encoder.reader, prompt=prompt))
    return [
        _parts(row, int(end - start), len(suffix))
        for row, (start, end) in zip(scored.vectors, spans, strict=True)
    ]


def _parts(row: NDArray[np.float32], own: int, suffix: int) -> TokenScores:
    """Take the padding off; the tokens of a late chunk stand without special ones."""
    found = row[~np.isnan(row)].astype(np.float64)
    first = 0 if len(found) == own else len(found) - own - suffix
    mine = found[first : first + own]
    return TokenScores(mine, float(found.sum() - mine.sum()), len(found))


@dataclass(frozen=True)
class _Scoring(Head):
    """Stands in for a head: gives the scores of the rows it would have pooled, then padding."""

    direction: Tensor = field(default_factory=lambda: torch.zeros(0))
    longest: int = 0

    @classmethod
    def of(cls, head: Head, direction: Tensor, longest: int) -> _Scoring:
        return cls(**vars(head), direction=direction, longest=longest)

    def __call__(self, states: Tensor, prompt_rows: slice) -> Tensor:
        states = states.double()
        kept = torch.ones(states.shape[1], dtype=torch.float64)
        if not self.include_prompt:
            kept[prompt_rows] = 0
        rows = kept.sum()
        mean = torch.einsum("btd,t->bd", states, kept) / rows
        length = mean.norm(dim=1, keepdim=True) if self.normalize else torch.ones(1, 1)
        scores = (states @ self.direction) * kept / (rows * length)
        missing = max(0, self.longest - scores.shape[1])  # blocks of late chunks come without rows
        padding = scores.new_full((len(scores), missing), torch.nan)
        return torch.cat([scores, padding], 1)
