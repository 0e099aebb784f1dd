"""Tokens per second: ours and sentence-transformers' `encode`, the same passages, in turn.

Passages are cut from the documentation of Python's standard library, so nothing is needed beside
the project. The ceiling is this machine's own matrix-product rate, measured in the same run.

    python benchmarks/encode_throughput.py --passages 256 --length 254 --rounds 5
"""

from __future__ import annotations

import argparse
import pydoc
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from machine import report
from unabridged.encoder import LongEncoder
from unabridged.encoder.checkpoint import find_checkpoint
from unabridged.encoder.loading import load_weights
from unabridged.encoder.surgery import dissect

MODULES = ("argparse", "asyncio", "decimal", "doctest", "email", "logging", "tkinter", "turtle",
           "unittest", "xml.dom.minidom", "zipfile", "pathlib")  # fmt: skip


def passages(encoder: LongEncoder, count: int, length: int) -> list[str]:
    """Texts of exactly `length` tokens, cut where the tokenizer says."""
    text = "\n".join(
        pydoc.plain(pydoc.render_doc(name, renderer=pydoc.plaintext)) for name in MODULES
    )
    tokens = encoder.read(text[: count * length * 8])
    found: list[str] = []
    for start in range(0, len(tokens.token_ids) - length, length):
        part = tokens.token_chars[start : start + length]
        candidate = text[int(part[0, 0]) : int(part[-1, 1])]
        if encoder.count_tokens(candidate) == length:
            found.append(candidate)
        if len(found) == count:
            break
    return found


def matrix_rate(dtype: torch.dtype) -> float:
    """GFLOP/s of 4096 x 1536 x 1536, the best of ten."""
    left, right = torch.randn(4096, 1536).to(dtype), torch.randn(1536, 1536).to(dtype)
    seconds = []
    for _ in range(10):
        start = time.perf_counter()
        left @ right
        seconds.append(time.perf_counter() - start)
    return 2e-9 * 4096 * 1536 * 1536 / min(seconds)


def flops_per_token(length: int) -> float:
    """Linear layers and attention of the default model, at blocks of `length` tokens."""
    layers = dissect(load_weights(find_checkpoint())).layers
    width, inner = layers[0].query.in_features, layers[0].up.out_features
    return len(layers) * (2 * (4 * width**2 + 2 * width * inner) + 4 * width * length)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--passages", type=int, default=256)
    parser.add_argument("--length", type=int, default=254, help="tokens of a passage")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()

    folder = str(find_checkpoint().folder)
    ours = {name: LongEncoder(dtype=name) for name in ("float32", "bfloat16")}
    theirs = {
        name: SentenceTransformer(folder, device="cpu", model_kwargs={"dtype": dtype})
        for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16))
    }
    texts = passages(ours["float32"], options.passages, options.length)
    runs: dict[str, Callable[[], np.ndarray]] = {
        "ours, float32": lambda: ours["float32"].encode(texts),
        "sentence-transformers, float32 (its default)": lambda: theirs["float32"].encode(texts),
        "ours, bfloat16": lambda: ours["bfloat16"].encode(texts),
        "sentence-transformers, bfloat16": lambda: theirs["bfloat16"].encode(texts),
    }
    vectors = {name: np.asarray(run(), np.float32) for name, run in runs.items()}  # also warms up
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    rates: dict[str, list[float]] = {"float32": [], "bfloat16": []}
    for _ in range(options.rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
        for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
            rates[name].append(matrix_rate(dtype))

    tokens = len(texts) * (options.length + 2)
    exact = vectors["sentence-transformers, float32 (its default)"]
    work = flops_per_token(options.length + 2)
    rows = []
    for name in runs:
        per_second = tokens / median(seconds[name])
        rate = median(rates["bfloat16" if "bfloat16" in name else "float32"])
        cosine = (vectors[name] * exact).sum(1) / (
            np.linalg.norm(vectors[name], axis=1) * np.linalg.norm(exact, axis=1)
        )
        rows.append(
            {
                "encoder": name,
                "tokens/s": round(per_second),
                "of the matrix rate": round(per_second * work * 1e-9 / rate, 3),
                "least cosine to float32": round(float(cosine.min()), 5),
            }
        )

    def ratio(one: str, other: str) -> float:
        pairs = zip(seconds[other], seconds[one], strict=True)
        return round(median(theirs / ours for theirs, ours in pairs), 2)

    report(
        "encode_throughput",
        rows,
        about={
            "passages": f"{len(texts)} of {options.length + 2} tokens",
            "matrix product GFLOP/s": {name: round(median(rate)) for name, rate in rates.items()},
            "ours over theirs, round by round": {
                "bfloat16 over their default": ratio(
                    "ours, bfloat16", "sentence-transformers, float32 (its default)"
                ),
                "bfloat16 over bfloat16": ratio(
                    "ours, bfloat16", "sentence-transformers, bfloat16"
                ),
                "float32 over float32": ratio(
                    "ours, float32", "sentence-transformers, float32 (its default)"
                ),
            },
        },
    )


if __name__ == "__main__":
    main()
