"""Every passage vector against a query: exact, from memory or streamed, under a stated budget."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unabridged.collection.catalogue import Catalogue
from unabridged.collection.store import Store, vectors_of

__all__ = ["DenseIndex", "Transform", "unit_rows"]

Transform = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""(rows, D) raw vectors to the space in which the cosine is taken."""


@dataclass(frozen=True, slots=True)
class DenseIndex:
    """The visible passages of one version of a collection, in the catalogue's order.

    Attributes:
        store: at that version.
        catalogue: says what is visible.
        transform: whitening, or what leaves vectors as they are.
        matrix: (N, K) unit vectors, or None where each query streams them from disk.
        whole: False where a passage of a visible document was not found.
    """

    store: Store
    catalogue: Catalogue
    transform: Transform
    matrix: NDArray[np.float32] | None
    whole: bool

    @classmethod
    def build(
        cls, store: Store, catalogue: Catalogue, transform: Transform, *, memory: int
    ) -> DenseIndex:
        """Load the vectors, transformed, if float32 fits into `memory` bytes."""
        streamed = cls(store, catalogue, transform, matrix=None, whole=True)
        if catalogue.passages * store.dimension * 4 > memory:
            return streamed
        matrix = np.zeros((catalogue.passages, 0), dtype=np.float32)
        found = 0
        for places, block in streamed.blocks():
            if not matrix.shape[1]:
                matrix = np.zeros((catalogue.passages, block.shape[1]), dtype=np.float32)
            matrix[places] = block
            found += len(places)
        whole = found == catalogue.passages
        return cls(store, catalogue, transform, matrix=matrix, whole=whole)

    def scores(self, query: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N,) cosines with one (K,) unit vector."""
        if self.matrix is not None:
            return np.asarray(self.matrix @ query, dtype=np.float32)
        found = np.zeros(self.catalogue.passages, dtype=np.float32)
        for places, block in self.blocks():
            found[places] = block @ query
        return found

    def blocks(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """(positions, unit vectors) of visible passages, a block at a time, from disk."""
        for batch in self.store.scan_passages(["revision", "ordinal", "vector"]):
            keys = batch["revision"].to_numpy(), batch["ordinal"].to_numpy()
            places = self.catalogue.places_of(*keys)
            seen = places >= 0
            if seen.any():
                raw = vectors_of(batch["vector"])[seen]
                yield places[seen], unit_rows(self.transform(raw))


def unit_rows(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of length 1; a row of zeros stays, and so is similar to nothing."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    safe = np.where(lengths > 0, lengths, 1)
    return np.asarray(vectors / safe, dtype=np.float32)
