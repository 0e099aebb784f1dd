"""What every token of a document adds to the lead of its label.

A passage's share is ⟨w, (v − centre) · scale⟩ / P, linear in its vector v, and v is a sum over
pooled tokens (see `unabridged.encoder.token_scores`). The centre's part is spread evenly over the
pooled tokens, so that a token's share is what it says beyond what an average token says.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from unabridged._reading import Reading, Span
from unabridged.classification.classifier import Classifier
from unabridged.classification.explaining import Why

__all__ = ["Scores", "TokenAccount", "TokenShare", "token_account", "words_of"]


class Scores(Protocol):
    """A passage's ⟨w, v⟩ token by token; `unabridged.encoder.TokenScores` is one."""

    @property
    def own(self) -> NDArray[np.float64]:
        """(n,) one for every token of the passage."""
        ...

    @property
    def special(self) -> float:
        """Of special and prompt tokens together."""
        ...

    @property
    def rows(self) -> int:
        """How many tokens were pooled."""
        ...


Scorer = Callable[[NDArray[np.float64]], Sequence[Scores]]
"""From a direction w (D,) to the scores of every passage."""


@dataclass(frozen=True)
class TokenShare:
    """What a token, or a word of several, adds to the lead, and its place in the text."""

    amount: float
    chars: Span


@dataclass(frozen=True)
class TokenAccount:
    """A lead as a sum over tokens: bias + tokens + special + rounding is the lead.

    Attributes:
        tokens: in the order of the document.
        special: of the special and prompt tokens of all passages.
        bias: what the head says without any document.
        rounding: what reading the document twice in single precision left.
    """

    tokens: tuple[TokenShare, ...]
    special: float
    bias: float
    rounding: float


def token_account(
    classifier: Classifier, why: Why, reading: Reading, scorer: Scorer
) -> TokenAccount:
    """Split the lead of an explained document over its tokens.

    Args:
        classifier: the one that was explained.
        why: its explanation.
        reading: the document as it was explained.
        scorer: of the same document.
    """
    head = classifier.head().double()
    first, second = (classifier.classes.index(n) for n in (why.prediction.label, why.against))
    weight = (head.weight[first] - head.weight[second]).detach()
    level = float(weight @ classifier.centre.double())
    factor = classifier.scale / len(reading)
    amounts, special = np.zeros(len(reading.token_ids)), []
    passages = scorer(weight.numpy())
    for part, (start, end) in zip(passages, reading.passage_tokens, strict=True):
        amounts[start:end] += factor * (part.own - level / part.rows)
        beside = (part.rows - len(part.own)) / part.rows
        special.append(factor * (part.special - level * beside))
    shares = zip(amounts.tolist(), reading.token_chars.tolist(), strict=True)
    tokens = tuple(TokenShare(amount, (start, end)) for amount, (start, end) in shares)
    known = [why.bias, *amounts.tolist(), *special]
    return TokenAccount(
        tokens, math.fsum(special), why.bias, math.fsum([why.lead, *(-x for x in known)])
    )


def words_of(tokens: Sequence[TokenShare], text: str) -> list[TokenShare]:
    """Tokens put together to words: pieces that nothing stands between, letters and digits only.

    >>> pieces = [TokenShare(1.0, (0, 4)), TokenShare(0.5, (4, 7)), TokenShare(2.0, (7, 8))]
    >>> [(word.amount, word.chars) for word in words_of(pieces, "reading.")]
    [(1.5, (0, 7)), (2.0, (7, 8))]
    """
    words: list[TokenShare] = []
    for token in tokens:
        start, end = token.chars
        last = words[-1] if words else None
        joined = last is not None and last.chars[1] == start and end > start
        if last is not None and joined and text[start - 1].isalnum() and text[start].isalnum():
            words[-1] = TokenShare(last.amount + token.amount, (last.chars[0], end))
        else:
            words.append(token)
    return words
