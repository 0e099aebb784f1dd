"""The task that readers are compared on: documents as they are read, and what is asked of them.

Three kinds of queries, all of them about one document each:

- "title": its title, or its first line, which is then taken out of what is read;
- "sentence": sentences of its own, one from each quarter of it that has one found nowhere else;
- "needle": a question about a fact that was planted in it, in each quarter of equally many.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from unabridged.probing.needles import make_needles, plant

__all__ = ["KINDS", "QUARTERS", "Kind", "Query", "Source", "Task", "cut_to", "prepare"]

Kind = Literal["title", "sentence", "needle"]
KINDS: tuple[Kind, ...] = ("title", "sentence", "needle")
QUARTERS = 4

# A point within a word (a name, a number) ends no sentence.
_SENTENCE = re.compile(r"(?:[^.!?。！？\n]|[.!?](?=\S)){24,240}(?:[.!?](?=\s|$)|[。！？]|\n|$)")
_LONGEST_TITLE = 200
_HEAD = 2000


@dataclass(frozen=True, slots=True)
class Source:
    """A document as its owner has it.

    Attributes:
        id: such as its path.
        text: all of it that shall be read.
        title: what it says of itself, or what somebody asked for; empty for its first line.
    """

    id: str
    text: str
    title: str = ""


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked.

    Attributes:
        text: the question.
        document: index of the one document that answers it.
        kind: which of the three.
        depth: where the answer stands, from 0, the beginning, to 1; None for the whole.
    """

    text: str
    document: int
    kind: Kind
    depth: float | None = None

    @property
    def quarter(self) -> int | None:
        """0 to 3, which quarter of the document the answer stands in."""
        return None if self.depth is None else min(int(self.depth * QUARTERS), QUARTERS - 1)


@dataclass(frozen=True, slots=True)
class Task:
    """Documents and queries.

    Attributes:
        ids: of the documents.
        texts: what is read of them: without a title that is asked for, with a planted needle.
        queries: in the order of the documents.
    """

    ids: tuple[str, ...]
    texts: tuple[str, ...]
    queries: tuple[Query, ...]

    def __len__(self) -> int:
        """Number of documents."""
        return len(self.texts)

    def part(self, start: int, stop: int) -> Task:
        """Documents `start` to `stop` and what is asked of them, counted anew from 0."""
        queries = [q for q in self.queries if start <= q.document < stop]
        moved = (Query(q.text, q.document - start, q.kind, q.depth) for q in queries)
        return Task(self.ids[start:stop], self.texts[start:stop], tuple(moved))


def prepare(sources: Sequence[Source], *, seed: int) -> Task:
    """Choose titles, sentences and needles.

    A title that two documents share is no query, nor is a sentence that stands in two.

    Args:
        sources: the documents, at most `MOST_NEEDLES`.
        seed: equal seeds give equal tasks.
    """
    rng = np.random.default_rng(seed)
    titles = [_title(source) for source in sources]
    shared = Counter(title.casefold() for title, _ in titles)
    needles = make_needles(len(sources), rng)
    quarters = rng.permutation(np.arange(len(sources)) % QUARTERS)
    texts: list[str] = []
    queries: list[Query] = []
    for index, (title, body) in enumerate(titles):
        if title and shared[title.casefold()] == 1:
            queries.append(Query(title, index, "title"))
        queries += _sentences(index, [other for _, other in titles], rng)
        depth = float((quarters[index] + rng.random()) / QUARTERS)
        queries.append(Query(needles[index].question, index, "needle", depth))
        texts.append(plant(body, needles[index].fact, depth))
    return Task(tuple(source.id for source in sources), tuple(texts), tuple(queries))


def cut_to(text: str, tokens: int, count_tokens: Callable[[str], int]) -> str:
    """The longest beginning of whole lines or words with at most so many tokens, or the text.

    >>> cut_to("one two three four", 3, lambda text: len(text.split()))
    'one two three'
    """
    whole = count_tokens(text)
    if whole <= tokens:
        return text
    low, high = 0, len(text)
    while high - low > max(1, len(text) // 1000):
        middle = (low + high) // 2
        low, high = (middle, high) if count_tokens(text[:middle]) <= tokens else (low, middle)
    word = max(text.rfind(" ", 0, low + 1), text.rfind("\n", 0, low + 1))
    return text[: word if word > 0 else low]


def _title(source: Source) -> tuple[str, str]:
    """What is asked for, and the text without it."""
    if source.title:
        head, rest = source.text[:_HEAD], source.text[_HEAD:]
        return source.title, head.replace(source.title, "", 1) + rest
    line, _, rest = source.text.lstrip().partition("\n")
    title = line.strip().lstrip("#").strip()
    if len(title) > _LONGEST_TITLE or not any(map(str.isalpha, title)) or not rest.strip():
        return "", source.text
    return title, rest


def _sentences(index: int, bodies: Sequence[str], rng: np.random.Generator) -> list[Query]:
    """One sentence from each quarter of a document, where there is one."""
    body = bodies[index]
    by_quarter: list[list[Query]] = [[] for _ in range(QUARTERS)]
    for match in _SENTENCE.finditer(body):
        query = Query(match.group().strip(), index, "sentence", match.start() / len(body))
        if _wordy(query.text) and query.quarter is not None:
            by_quarter[query.quarter].append(query)
    chosen = []
    for candidates in by_quarter:
        for place in rng.permutation(len(candidates)):
            if sum(candidates[place].text in other for other in bodies) == 1:
                chosen.append(candidates[place])
                break
    return chosen


def _wordy(text: str) -> bool:
    """Mostly letters and spaces, several words: no table, no code, no rule of dashes."""
    letters = sum(c.isalpha() or c.isspace() for c in text)
    return letters >= 0.85 * len(text) >= 20 and (len(text.split()) >= 4 or not text.isascii())
