"""Search of a million vectors by sign codes, beside faiss, and the coverage of their intervals.

Real vectors (MiniLM passages of QMSum, 384 dimensions) are repeated with Gaussian noise of 0.02 an
entry up to --rows: a hard set, since near copies compete. Every query goes to every index in turn.
Recall is of the ten rows of largest exact inner product. `rescored` counts exact products: faiss's
codes are rescored by us with the same number of exact products. Milliseconds are medians of single
queries. The second table: intervals at a nominal 95 % on the real passages as they are, and on
adversarial vectors, over --rotations rotations.
"""

from __future__ import annotations

import argparse
import time
from importlib.metadata import version

import faiss
import numpy as np
import torch

import machine
from real_vectors import real_vectors, tiled
from unabridged.geometry.sign_codes import SignCodes
from unabridged.geometry.sign_search import certified_top_k, top_k

K = 10


def rescored(index, vectors, count):
    """A search of `index` for `count` rows, the best ten of them by exact products."""

    def search(query):
        _, rows = index.search(query[None], count)
        found = np.sort(rows[0][rows[0] >= 0])
        exact = vectors[found] @ query
        return found[np.argsort(-exact)[:K]], len(found)

    return search


def ours(codes, vectors, **settings):
    def search(query):
        found = top_k(codes, query, vectors, k=K, **settings)
        return found.rows, found.rescored

    return search


def certified(codes, vectors):
    def search(query):
        found = certified_top_k(codes, query, vectors, k=K, failure=0.01)
        assert found.proven
        return found.rows, found.rescored

    return search


def timed(make):
    start = time.perf_counter()
    made = make()
    return made, time.perf_counter() - start


def filled(index, vectors):
    if not index.is_trained:
        index.train(vectors[:: max(1, len(vectors) // 100_000)])
    index.add(vectors)
    return index


def competitors(vectors):
    """Name, search, seconds to build, bytes a vector."""
    d = vectors.shape[1]
    codes, build = timed(lambda: SignCodes.encode(vectors))
    size = f"48 + {codes.bytes_per_vector - 48}"
    for bits, count in ((1, 4000), (2, 1000), (2, 2000), (4, 2000)):
        name = f"unabridged 1 bit, query {bits} bits, best {count}"
        yield name, ours(codes, vectors, rescore=count, query_bits=bits), build, size
    yield "unabridged 1 bit, proven (failure 0.01)", certified(codes, vectors), build, size
    flat, build = timed(lambda: filled(faiss.IndexFlatIP(d), vectors))
    yield "faiss IndexFlatIP", lambda q: (flat.search(q[None], K)[1][0], len(vectors)), build, 4 * d
    lsh, build = timed(lambda: filled(faiss.IndexLSH(d, d), vectors))
    yield "faiss IndexLSH 384", rescored(lsh, vectors, 4000), build, lsh.code_size
    rabitq, build = timed(lambda: filled(faiss.IndexRaBitQ(d, faiss.METRIC_INNER_PRODUCT), vectors))
    rabitq.qb = 4
    yield (
        "faiss IndexRaBitQ, query 4 bits",
        rescored(rabitq, vectors, 2000),
        build,
        rabitq.code_size,
    )
    quantizer = faiss.IndexFlatIP(d)
    inverted = faiss.IndexIVFRaBitQ(quantizer, d, 1024, faiss.METRIC_INNER_PRODUCT)
    _, build = timed(lambda: filled(inverted, vectors))
    inverted.nprobe = 32
    name = "faiss IndexIVFRaBitQ 1024, nprobe 32"
    yield name, rescored(inverted, vectors, 2000), build, inverted.code_size + 8


def search_table(vectors, queries):
    rivals = list(competitors(vectors))
    exact = [np.argpartition(-(vectors @ q), K)[:K] for q in queries]
    seconds = {name: [] for name, *_ in rivals}
    recalls = {name: [] for name, *_ in rivals}
    counts = {name: [] for name, *_ in rivals}
    for query, wanted in zip(queries, exact, strict=True):
        for name, search, *_ in rivals:
            (rows, count), took = timed(lambda search=search, query=query: search(query))
            seconds[name].append(took)
            recalls[name].append(len(np.intersect1d(rows, wanted)) / K)
            counts[name].append(count)
    flat = np.median(seconds["faiss IndexFlatIP"])
    return [
        {
            "index": name,
            "bytes a vector": size,
            "build s": f"{build:.1f}",
            "rescored (median)": int(np.median(counts[name])),
            "recall@10": f"{np.mean(recalls[name]):.4f}",
            "ms a query": f"{1e3 * np.median(seconds[name]):.2f}",
            "x faster than FlatIP": f"{flat / np.median(seconds[name]):.1f}",
        }
        for name, _, build, size in rivals
    ]


def adversarial(d):
    """One spike, two spikes, a flat vector, growing entries; queries likewise."""
    rows = np.zeros((4, d))
    rows[0, 0] = 1
    rows[1, :2] = 0.5**0.5
    rows[2] = d**-0.5
    rows[3] = np.arange(d) / np.linalg.norm(np.arange(d))
    return rows


def coverage_table(passages, queries, rotations):
    table = []
    d = passages.shape[1]
    spikes = adversarial(d)
    sets = {
        "real passages": (passages.astype(np.float64), queries, None),
        "spikes": (spikes, np.concatenate([spikes, queries]), np.zeros(d)),
    }
    for name, (X, Q, centre) in sets.items():
        for bits in (1, 2, 4):
            errors, hits = [], []
            for seed in range(rotations if name == "real passages" else 20 * rotations):
                codes = SignCodes.encode(X, bits=bits, seed=seed, centre=centre)
                for q in Q.astype(np.float64):
                    got, true = codes.estimate(q, failure=0.05), X @ q
                    errors.append(got.value - true)
                    hits.append(np.mean((got.lower <= true) & (true <= got.upper)))
            table.append(
                {
                    "vectors": name,
                    "bits": bits,
                    "pairs": sum(len(e) for e in errors),
                    "bias": f"{np.mean(np.concatenate(errors)):+.1e}",
                    "standard deviation": f"{np.std(np.concatenate(errors)):.4f}",
                    "coverage (nominal .95)": f"{np.mean(hits):.4f}",
                }
            )
    return table


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", help="folder that holds qmsum/")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=50)
    parser.add_argument("--rotations", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    faiss.omp_set_num_threads(given.threads)
    passages, queries = real_vectors(given.data)
    chosen = queries[:: max(1, len(queries) // given.queries)][: given.queries]
    about = {"faiss-cpu": version("faiss-cpu"), "rows": given.rows, "queries": len(chosen)}
    rows = search_table(tiled(passages, given.rows, 0.02, seed=0), chosen)
    machine.report("sign_codes", rows, about)
    print()
    machine.report("sign_codes_coverage", coverage_table(passages, chosen[:20], given.rotations))


if __name__ == "__main__":
    main()
