"""The user's own long documents, from a folder of files or from a collection, in random order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unabridged._errors import DocumentError
from unabridged.collection import Collection
from unabridged.collection.documents import NothingToRead, document_id, read_document, walk
from unabridged.probing.needles import MOST_NEEDLES
from unabridged.probing.task import Source, cut_to

__all__ = ["Gathered", "gather", "of_collection", "of_folder"]

_ROOM = 40
"""Tokens left free in a document that is cut, for the needle."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """Long documents, ready to be asked about.

    Attributes:
        sources: in the order in which they take part.
        tokens: of each, as far as it is read.
        looked_at: how many documents with text were seen.
        longest: tokens of the longest of all these.
        cut: how many of the sources are longer than what is read of them here.
        failed: ids and reasons of documents that could not be read.
    """

    sources: tuple[Source, ...]
    tokens: tuple[int, ...]
    looked_at: int
    longest: int
    cut: int
    failed: tuple[tuple[str, str], ...]


Found = Iterator[Source | tuple[str, str]]
"""Documents, or ids and reasons of those that could not be read."""


def of_folder(folder: Path, *, seed: int) -> Found:
    """The documents of a folder of files, in an order that the seed alone decides."""
    paths = list(walk(folder))
    for place in np.random.default_rng(seed).permutation(len(paths)):
        path = paths[place]
        try:
            document = read_document(path, folder)
        except NothingToRead:
            continue
        except DocumentError as error:
            yield document_id(path, folder), str(error)
        else:
            yield Source(document.id, document.text, document.metadata.get("title", ""))


def of_collection(collection: Collection, *, seed: int) -> Found:
    """The documents of a collection, in an order that the seed alone decides."""
    ids = [summary.id for summary in collection.list()]
    for place in np.random.default_rng(seed).permutation(len(ids)):
        document = collection.get(ids[place])
        yield Source(ids[place], document.text, document.summary.metadata.get("title", ""))


def gather(
    found: Iterable[Source | tuple[str, str]],
    count_tokens: Callable[[str], int],
    *,
    longer_than: int,
    at_most: int,
    most: int = MOST_NEEDLES,
) -> Gathered:
    """Keep the long documents, and cut those that would take all the time.

    Args:
        found: documents, in the order in which they shall take part.
        count_tokens: the model's own count.
        longer_than: tokens that the model takes at once; what fits is no long document.
        at_most: tokens of a document that are read.
        most: documents that are kept; then no more are looked at.
    """
    sources: list[Source] = []
    tokens: list[int] = []
    failed: list[tuple[str, str]] = []
    looked_at = longest = cut = 0
    for document in found:
        if not isinstance(document, Source):
            failed.append(document)
            continue
        count = count_tokens(document.text)
        looked_at, longest = looked_at + 1, max(longest, count)
        if count <= longer_than:
            continue
        cut += count > at_most
        text = cut_to(document.text, at_most - _ROOM, count_tokens) if count > at_most else ""
        sources.append(Source(document.id, text or document.text, document.title))
        tokens.append(min(count, at_most))
        if len(sources) == most:
            break
    return Gathered(tuple(sources), tuple(tokens), looked_at, longest, cut, tuple(failed))
