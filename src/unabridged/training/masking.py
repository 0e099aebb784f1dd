"""Masked language modelling: which tokens are hidden, and the loss of guessing them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from unabridged._errors import ModelError
from unabridged.training.corpus import Batch

__all__ = ["LogitsAt", "MaskedLanguageModel", "Masking", "logits_of_checkpoint"]

LogitsAt = Callable[[nn.Module, Batch, Tensor], Tensor]
"""A model, its masked input (B, T) and the chosen places (B, T, bool), M of them, to logits (M, V)
in the order of rows."""


@dataclass(frozen=True)
class Masking:
    """BERT's recipe: of 15 % of the tokens, 8 in 10 become the mask, 1 another token, 1 stays.

    Attributes:
        mask_id: the token that hides.
        vocabulary: V; replacements are drawn from all of it.
        special_ids: tokens that are never chosen.
        share: of the other tokens, so many are chosen, each by its own coin.

    Reference: Devlin et al. (2019), BERT, section 3.1 and appendix A.1.
    """

    mask_id: int
    vocabulary: int
    special_ids: tuple[int, ...] = ()
    share: float = 0.15

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, *, share: float = 0.15) -> Masking:
        """What a tokenizer of transformers says.

        Raises:
            ModelError: it has no mask token.
        """
        if tokenizer.mask_token_id is None:
            raise ModelError(
                "tokenizer: has no mask token; masked language modelling needs one, so add it."
            )
        specials = tuple(sorted(set(tokenizer.all_special_ids)))
        return cls(tokenizer.mask_token_id, len(tokenizer), specials, share)

    def __call__(self, batch: Batch, generator: torch.Generator) -> tuple[Batch, Tensor]:
        """Hide tokens.

        Returns:
            The batch with tokens hidden, and (B, T) bool, the places to be guessed. There is always
            at least one, so that a loss is always a number.

        >>> ids = torch.arange(100, 1100)[None]
        >>> masking = Masking(mask_id=4, vocabulary=30000)
        >>> hidden, chosen = masking(Batch.of([ids[0]]), torch.Generator().manual_seed(0))
        >>> round(chosen.float().mean().item(), 2), bool((hidden.ids == ids)[~chosen].all())
        (0.15, True)
        """
        ids = batch.ids
        eligible = batch.real & ~torch.isin(ids, torch.tensor(self.special_ids, dtype=ids.dtype))
        if not eligible.any():
            raise ValueError("Masking: the batch holds special tokens alone; leave it out.")
        coins = torch.rand(ids.shape, generator=generator).masked_fill(~eligible, 2.0)
        chosen = coins < self.share
        if not chosen.any():
            chosen = coins == coins.min()
        fates = torch.rand(ids.shape, generator=generator)
        others = torch.randint(self.vocabulary, ids.shape, generator=generator)
        hidden = torch.where(chosen & (fates < 0.8), self.mask_id, ids)
        hidden = torch.where(chosen & (fates >= 0.9), others, hidden)
        return Batch(hidden, batch.real), chosen


@dataclass(frozen=True)
class MaskedLanguageModel:
    """The objective: cross-entropy of the hidden tokens.

    Attributes:
        masking: which tokens are hidden.
        logits_at: how the model is asked; the default takes any `AutoModelForMaskedLM`.
    """

    masking: Masking
    logits_at: LogitsAt | None = None

    def __call__(self, model: nn.Module, batch: Batch, generator: torch.Generator) -> Tensor:
        """Mean loss over the hidden tokens of a batch, in nats."""
        logits, targets = self.guesses(model, batch, generator)
        return nn.functional.cross_entropy(logits.float(), targets)

    def guesses(
        self, model: nn.Module, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Logits (M, V) of the hidden tokens, and what they are (M,)."""
        hidden, chosen = self.masking(batch, generator)
        logits = (self.logits_at or logits_of_checkpoint)(model, hidden, chosen)
        return logits, batch.ids[chosen]


def logits_of_checkpoint(model: nn.Module, batch: Batch, chosen: Tensor) -> Tensor:
    """Logits at the chosen places alone, of any masked language model of transformers.

    The head would score every token of the vocabulary at every place, which for long inputs is
    most of the work and nearly all of the memory. Heads treat every place alike, so between body
    and head all other places are taken out.
    """

    def keep(module: nn.Module, inputs: Any, output: Any) -> Any:  # noqa: ANN401, ARG001
        output.last_hidden_state = output.last_hidden_state[chosen][None]  # (1, M, D)
        return output

    body: Any = model.base_model
    handle = body.register_forward_hook(keep)
    try:
        logits: Tensor = model(input_ids=batch.ids, attention_mask=batch.attention_mask).logits
    finally:
        handle.remove()
    return logits[0]
