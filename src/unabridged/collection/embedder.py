"""What a collection asks of whatever makes its vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from unabridged._reading import Reading

__all__ = ["Embedder"]


class Embedder(Protocol):
    """Texts in, readings out: all that a collection knows about a model.

    Laws that every embedder keeps:

    - `read_many` yields one reading a text, in the order of the texts, and pulls texts lazily;
    - equal texts give equal readings, whatever stands beside them in a batch, to the rounding of
      the arithmetic;
    - equal fingerprints mean interchangeable vectors: everything that changes a vector is in it.
    """

    @property
    def dimension(self) -> int:
        """D, the width of every vector."""
        ...

    @property
    def fingerprint(self) -> dict[str, str]:
        """Everything that changes a vector: model hash, reader, window, passage, overlap, ..."""
        ...

    def count_tokens(self, text: str) -> int:
        """Tokens of a text, special tokens not counted."""
        ...

    def read_many(
        self, texts: Iterable[str], *, on_tokens: Callable[[int], None] | None = None
    ) -> Iterator[Reading]:
        """Readings of texts, lazily and in order, batched across documents.

        Args:
            texts: pulled one by one, only as far ahead as a batch needs.
            on_tokens: called with the number of tokens read since its last call.
        """
        ...

    def encode_query(self, queries: Sequence[str]) -> NDArray[np.float32]:
        """(Q, D) raw vectors of queries."""
        ...
