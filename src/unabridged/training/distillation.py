"""Self-distillation: a model reads whole documents as it reads windows of them.

The teacher is the model before training, which reads windows of the length it was made for. The
student reads the whole text at once. Four things are asked of it:

- each token's state points where the teacher's does, in the window in which it stands most
  centrally;
- each window's vector, pooled from the states of the one pass (a late chunk), points where the
  teacher's vector of that window does;
- the vector of the whole points to the mean of the teacher's unit vectors of the windows;
- short pieces of the text, read alone, find their document among others: the vector of the whole is
  nearer to them than the teacher's vectors of other documents are. And, read alone by the student,
  they keep the vectors that they had, so that questions go on being understood.

No labels, no head, no other model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  the field's name for it

from unabridged._reading import Span
from unabridged.training.corpus import Batch
from unabridged.training.windows import Windowed, read_windows

__all__ = ["Distillation", "Weights", "mean_pooling"]

Pool = Callable[[Tensor], Tensor]
"""States of equally long blocks (B, T, D) to vectors (B, D')."""


def mean_pooling(states: Tensor) -> Tensor:
    """(B, T, D) to (B, D)."""
    return states.mean(1)


@dataclass(frozen=True)
class Weights:
    """How much each part of the loss counts; 0 leaves it out.

    Attributes:
        tokens: states of tokens.
        passages: vectors of windows; for models that pool by the mean.
        document: the vector of the whole.
        finding: pieces among documents.
        pieces: vectors of pieces read alone.
    """

    tokens: float = 0.1
    passages: float = 1.0
    document: float = 2.0
    finding: float = 0.1
    pieces: float = 4.0


@dataclass(frozen=True)
class Distillation:
    """The objective. Called with the student, batches of whole stretches, and a generator.

    Attributes:
        teacher: the model before training, frozen, in evaluation mode.
        specials: how many special tokens stand before and after a text.
        others: (K, D') unit vectors of other documents, as `document_vector` gives them.
        pool: of states to a vector, as the model's authors meant it.
        window: tokens of a teacher's window, special ones not counted.
        weights: of the parts.
        pieces: how many pieces of a text are asked for.
        piece: tokens of a piece.
        temperature: of the comparison with other documents.
        alike: documents with a cosine above this are no others.
    """

    teacher: nn.Module
    specials: Span
    others: Tensor
    pool: Pool = mean_pooling
    window: int = 254
    weights: Weights = field(default_factory=Weights)
    pieces: int = 16
    piece: int = 24
    temperature: float = 0.05
    alike: float = 0.95

    def __call__(self, model: nn.Module, batch: Batch, generator: torch.Generator) -> Tensor:
        """Mean over the texts of a batch."""
        texts = [ids[real] for ids, real in zip(batch.ids, batch.real, strict=True)]
        return torch.stack([self._loss(model, text, generator) for text in texts]).mean()

    def document_vector(self, block: Tensor) -> Tensor:
        """(D',) unit vector: the mean of the teacher's unit vectors of windows of a block (T,)."""
        return F.normalize(F.normalize(self._taught(block).vectors, dim=-1).mean(0), dim=0)

    def _taught(self, block: Tensor) -> Windowed:
        return read_windows(
            self.teacher, block, window=self.window, specials=self.specials, pool=self.pool
        )

    def _loss(self, model: nn.Module, block: Tensor, generator: torch.Generator) -> Tensor:
        weights, taught = self.weights, self._taught(block)
        states = model(input_ids=block[None]).last_hidden_state.float()[0]  # (T + a + b, D)
        text = states[self.specials[0] : len(states) - self.specials[1]]
        whole = F.normalize(self.pool(states[None])[0], dim=0)
        target = F.normalize(F.normalize(taught.vectors, dim=-1).mean(0), dim=0)
        loss = weights.document * (1 - whole @ target)
        if weights.tokens:
            loss = loss + weights.tokens * _apart(text, taught.states)
        if weights.passages:
            loss = loss + weights.passages * _apart(_means(text, taught.spans), taught.vectors)
        if weights.finding or weights.pieces:
            loss = loss + self._pieces(model, block, (whole, target), generator)
        return loss

    def _pieces(
        self,
        model: nn.Module,
        block: Tensor,
        vectors: tuple[Tensor, Tensor],
        drawn: torch.Generator,
    ) -> Tensor:
        whole, target = vectors
        cut = self._cut(block, drawn)  # (M, piece + a + b)
        with torch.no_grad():
            before = F.normalize(self.pool(self.teacher(input_ids=cut).last_hidden_state.float()))
        now = F.normalize(self.pool(model(input_ids=cut).last_hidden_state.float()))
        others = self.others[self.others @ target < self.alike]  # (K', D')
        scores = torch.cat([(before @ whole)[:, None], before @ others.T], dim=1)  # (M, 1 + K')
        right = torch.zeros(len(scores), dtype=torch.long)
        finding = F.cross_entropy(scores / self.temperature, right)
        return self.weights.finding * finding + self.weights.pieces * _apart(now, before)

    def _cut(self, block: Tensor, drawn: torch.Generator) -> Tensor:
        first, last = self.specials[0], len(block) - self.specials[1]
        length = min(self.piece, last - first)
        starts = torch.randint(first, last - length + 1, (self.pieces,), generator=drawn)
        before, after = block[:first], block[last:]
        return torch.stack([torch.cat([before, block[s : s + length], after]) for s in starts])


def _means(states: Tensor, spans: Tensor) -> Tensor:
    """(P, D) means of states (T, D) over spans (P, 2)."""
    sums = torch.cat([states.new_zeros(1, states.shape[1]), states.cumsum(0)])
    return (sums[spans[:, 1]] - sums[spans[:, 0]]) / (spans[:, 1] - spans[:, 0])[:, None]


def _apart(left: Tensor, right: Tensor) -> Tensor:
    """Mean of one minus the cosine of rows."""
    return (1 - F.cosine_similarity(left, right, dim=-1)).mean()
