"""Slow and obvious: an embedder without a model, BM25 by its formula, scores by loops."""

import hashlib
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from unabridged._reading import Coverage, Reading

WORD = re.compile(r"\w+")


class WordEmbedder:
    """Bags of words: each word has a fixed random direction, a passage is the sum of its words.

    Words of the same first letter share a part of their direction, so that there is something
    between equal and unrelated. Counts its calls, so that tests can show what was not read.
    """

    def __init__(self, dimension: int = 31, passage: int = 13, **settings: str) -> None:
        self._dimension, self._passage = dimension, passage
        self._settings = {"model": "words", "passage": str(passage), **settings}
        self.texts_read: list[str] = []
        self.queries_read: list[str] = []

    @property
    def dimension(self) -> int:
        return self._dimension

    @property
    def fingerprint(self) -> dict[str, str]:
        return dict(self._settings)

    def count_tokens(self, text: str) -> int:
        return len(WORD.findall(text))

    def read_many(
        self, texts: Iterable[str], *, on_tokens: Callable[[int], None] | None = None
    ) -> Iterator[Reading]:
        for text in texts:
            reading = self.read(text)
            self.texts_read.append(text)
            if on_tokens is not None:
                on_tokens(len(reading.token_ids))
            yield reading

    def read(self, text: str) -> Reading:
        spans = [match.span() for match in WORD.finditer(text)]
        starts = range(0, len(spans), self._passage)
        groups = [spans[start : start + self._passage] for start in starts]
        vectors = [self.vector([text[a:b] for a, b in group]) for group in groups]
        tokens = [(start, start + len(group)) for start, group in zip(starts, groups, strict=True)]
        return Reading(
            token_ids=np.zeros(len(spans), dtype=np.int32),
            token_chars=np.array(spans, dtype=np.int64).reshape(-1, 2),
            vectors=np.array(vectors, dtype=np.float32).reshape(-1, self._dimension),
            passage_tokens=np.array(tokens, dtype=np.int64).reshape(-1, 2),
            passage_chars=np.array([(g[0][0], g[-1][1]) for g in groups], dtype=np.int64).reshape(
                -1, 2
            ),
            coverage=Coverage(len(spans), len(spans)),
        )

    def encode_query(self, queries: Sequence[str]) -> np.ndarray:
        self.queries_read.extend(queries)
        return np.array([self.vector(WORD.findall(query)) for query in queries], dtype=np.float32)

    def vector(self, words: Iterable[str]) -> np.ndarray:
        total = np.zeros(self._dimension)
        for word in words:
            word = word.lower()
            total += direction(word, self._dimension) + direction(word[:1], self._dimension) / 2
        # A few directions dominate and all vectors lean one way, as in real models.
        return total * np.geomspace(9, 1, self._dimension) + direction("all", self._dimension)


def direction(word: str, dimension: int) -> np.ndarray:
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big")
    return np.random.default_rng(seed).standard_normal(dimension) / math.sqrt(dimension)


def bm25_scores(texts: list[str], query: str, *, k1: float = 1.2, b: float = 0.75) -> list[float]:
    """Robertson's BM25 with the idf that cannot be negative, one document at a time."""
    documents = [[word.lower() for word in WORD.findall(text)] for text in texts]
    mean_length = sum(map(len, documents)) / len(documents)
    scores = []
    for words in documents:
        counts, score = Counter(words), 0.0
        for word in WORD.findall(query.lower()):
            holders = sum(word in other for other in documents)
            if not holders:
                continue
            idf = math.log(1 + (len(documents) - holders + 0.5) / (holders + 0.5))
            norm = counts[word] + k1 * (1 - b + b * len(words) / mean_length)
            score += idf * counts[word] * (k1 + 1) / norm
        scores.append(score)
    return scores


def mean_of_best(scores: Iterable[float], best: int = 3) -> float:
    top = sorted(scores, reverse=True)[:best]
    return sum(top) / len(top)


def zscores(values: Sequence[float]) -> list[float]:
    mean = sum(values) / len(values)
    spread = math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))
    return [(value - mean) / spread if spread else 0.0 for value in values]


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def prose(number: int, words: int = 90) -> str:
    """A text of made-up sentences over a few thousand words, the same for the same number."""
    rng = np.random.default_rng(number)
    syllables = ["ba", "co", "di", "fu", "ge", "ha", "ki", "lo", "mu", "ne", "pi", "ro", "su", "ta"]
    lines, left = [], words
    while left > 0:
        length = min(left, int(rng.integers(5, 12)))
        made = ["".join(rng.choice(syllables, int(rng.integers(2, 4)))) for _ in range(length)]
        lines.append(" ".join(made).capitalize() + ".")
        left -= length
    return "\n".join(lines)
