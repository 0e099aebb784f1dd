"""Whitening inside a sentence-transformers model, as stock modules that load without us.

`y = x W + b` is exactly what their `Dense` computes with the identity as its activation, so a
whitened model is the user's model, a `Dense` and a `Normalize`: saved by their `save`, loaded by
their `SentenceTransformer(folder)`, no code of ours and no trust needed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize

from unabridged.geometry.recipe import Recipe
from unabridged.geometry.whitening import Whitening
from unabridged.geometry.whitening_tuner import Tuning, tune_whitening

__all__ = ["halves", "tune_for", "whitened_model", "whitening_modules"]


def whitening_modules(whitening: Whitening) -> tuple[Dense, Normalize]:
    """The whitening as `Dense` (float32, bias, identity activation) and `Normalize`.

    The queries' own mean cannot be expressed: a stock model treats both sides alike.
    """
    dense = Dense(
        in_features=whitening.width,
        out_features=whitening.dimension,
        bias=True,
        activation_function=torch.nn.Identity(),
    )
    with torch.no_grad():
        dense.linear.weight.copy_(torch.from_numpy(whitening.kernel.T))
        dense.linear.bias.copy_(torch.from_numpy(-whitening.mean @ whitening.kernel))
    return dense, Normalize()


def whitened_model(model: SentenceTransformer, whitening: Whitening) -> SentenceTransformer:
    """A new model that shares the modules of `model` and whitens what they give.

    Args:
        model: left untouched; a `Normalize` at its end stays in place before the whitening.
        whitening: fitted on what `model.encode` returns.

    Raises:
        ValueError: if the whitening was fitted on vectors of another width.
    """
    width = model.get_embedding_dimension()
    if width != whitening.width:
        raise ValueError(
            f"whitened_model: the model gives {width} columns and the whitening takes "
            f"{whitening.width}; fit the whitening on vectors of this model."
        )
    dense, normalize = whitening_modules(whitening)
    return SentenceTransformer(
        modules=[*model, dense, normalize],
        device=str(model.device),
        prompts=model.prompts,
        default_prompt_name=model.default_prompt_name,
        similarity_fn_name=model.similarity_fn_name,
    )


def halves(text: str) -> tuple[str, str] | None:
    """A text cut at the word boundary nearest its middle; None where there are not two words.

    Text without spaces is cut between characters, so that Chinese or Japanese works too.

    >>> halves("to be or not to be")
    ('to be or', 'not to be')
    >>> halves("长文本嵌入"), halves("x")
    (('长文', '本嵌入'), None)
    """
    words = text.split()
    if len(words) > 1:
        middle = len(words) // 2
        return " ".join(words[:middle]), " ".join(words[middle:])
    stripped = text.strip()
    if len(stripped) < 2:
        return None
    return stripped[: len(stripped) // 2], stripped[len(stripped) // 2 :]


def tune_for(
    model: SentenceTransformer,
    texts: Sequence[str],
    *,
    candidates: Sequence[Recipe] | None = None,
    seed: int = 0,
) -> Tuning:
    """Encode texts and their halves with `model` and choose a whitening without labels.

    Args:
        model: any sentence-transformers model.
        texts: unlabelled texts of the kind that will be searched or compared.
        candidates: recipes to choose from; None for the default grid.
        seed: see `tune_whitening`.

    Raises:
        ValueError: as `tune_whitening`.
    """
    cut = [halves(text) for text in texts]
    whole = np.asarray(model.encode(list(texts)))
    first, second = (
        np.asarray(model.encode([pair[side] if pair else "" for pair in cut])) for side in (0, 1)
    )
    missing = np.array([pair is None for pair in cut], dtype=bool)
    first[missing] = second[missing] = np.nan
    return tune_whitening(whole, first, second, candidates=candidates, seed=seed)
