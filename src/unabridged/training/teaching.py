"""From a checkpoint and documents to the objective of self-distillation."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from transformers import PreTrainedModel

from unabridged._errors import ModelError
from unabridged.encoder.pooling import Head
from unabridged.encoder.tokens import TextTokenizer
from unabridged.training.corpus import Corpus
from unabridged.training.distillation import Distillation, Weights

__all__ = ["distillation_of", "prompted"]

_OTHERS = 160
"""Documents that pieces of a text have to tell it from."""
_OTHERS_TOKENS = 762
"""Of each so many tokens are read: it shall be told what it is about, not remembered."""
_PROMPTS = ("document", "passage", "corpus")


def prompted(corpus: Corpus, head: Head, tokenizer: TextTokenizer) -> Corpus:
    """The corpus with the model's own document prompt before every text, where it has one."""
    prompt = next((head.prompts[name] for name in _PROMPTS if name in head.prompts), "")
    if not prompt:
        return corpus
    before, after = corpus.specials
    return replace(corpus, specials=((*before, *map(int, tokenizer(prompt).ids)), after))


def distillation_of(
    encoder: PreTrainedModel, head: Head, corpus: Corpus, *, documents: Sequence[int], window: int
) -> Distillation:
    """The objective whose teacher is the encoder as it is now.

    Args:
        encoder: gets a frozen copy.
        head: says how states are pooled; what follows the pooling stays as it is, so it is not
            asked.
        corpus: with the prompt, if there is one.
        documents: numbers of those that are trained on.
        window: tokens of a teacher's window, special ones not counted.

    Raises:
        ModelError: the pooling gives a vector that is no direction of states.
    """
    before, after = map(len, corpus.specials)
    prompt = slice(1, before) if before > 1 else slice(0)
    pooling = replace(head, modules=(), normalize=False)
    if "max" in head.modes:
        raise ModelError(
            "adapt: the model pools by the maximum over tokens, which grows with their number; "
            "wanted a mean or one token's state."
        )

    def pool(states: Tensor) -> Tensor:
        return pooling(states, prompt)

    objective = Distillation(
        teacher=copy.deepcopy(encoder).eval().requires_grad_(False),
        specials=(before, after),
        others=torch.empty(0, encoder.config.hidden_size),
        pool=pool,
        window=window,
        weights=Weights() if head.modes == ("mean",) else Weights(passages=0.0),
    )
    step = max(1, len(documents) // _OTHERS)
    starts = [(int(corpus.ends[d]), int(corpus.ends[d + 1])) for d in documents[::step][:_OTHERS]]
    blocks = [corpus.block(((a, min(a + _OTHERS_TOKENS, b)),)) for a, b in starts]
    others = torch.stack([objective.document_vector(block) for block in blocks])
    return replace(objective, others=others)
