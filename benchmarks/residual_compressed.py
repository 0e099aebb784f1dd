"""Compressed residual attention on the heads of a pretrained model: error against retained rank.

Queries, keys and values of every layer are those of the model reading the documentation of the
standard library; the scores of all layers are summed (gates at 1), and the output of the last
layer is compared with the exact one. "at once" compresses the factors of all layers together,
"layer by layer" is what mode "compressed" does: its cost does not grow with depth. Beside it the
rank of the 8.33 ln n law, and the variance that random features would have.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from pathlib import Path

import torch

import machine
from unabridged.attention.residual import Residual
from unabridged.attention.residual_scores import Factors, compress, predicted_log_variance
from unabridged.cli.standard_library import render
from unabridged.encoder.checkpoint import find_checkpoint
from unabridged.encoder.extension import extend
from unabridged.encoder.loading import load_weights
from unabridged.encoder.surgery import dissect
from unabridged.encoder.tokens import load_tokenizer
from unabridged.geometry.dimensions import embedding_dimension


def heads_of(model, ids):
    """(query, key, value) of every layer, (1, H, n, D)."""
    architecture, seen = dissect(model), []
    handles = [
        part.register_forward_hook(lambda *call: seen.append(call[-1]))
        for layer in architecture.layers
        for part in (layer.query, layer.key, layer.value)
    ]
    with torch.no_grad():
        model(input_ids=ids)
    for handle in handles:
        handle.remove()
    split = [x.unflatten(-1, (architecture.heads, -1)).transpose(1, 2) for x in seen]
    return [tuple(part.contiguous() for part in split[i : i + 3]) for i in range(0, len(split), 3)]


def read_all(residual, layers):
    earlier = None
    for query, key, value in layers:
        mixed, earlier = residual.read(query, key, value, earlier=earlier)
    return mixed


def factors_of(layers):
    factors = Factors.of(*layers[0][:2])
    for query, key, _ in layers[1:]:
        factors = factors.then(query, key, 1.0)
    return factors


def errors(layers, ranks):
    exact = read_all(Residual(), layers)
    wide, scale = factors_of(layers).concatenated(), layers[0][0].shape[-1] ** -0.5
    for rank in ranks:
        left, right, _ = compress(*wide, rank)
        once = Residual()(left, right, layers[-1][2], scale=scale)
        often = read_all(Residual("compressed", rank=rank), layers)
        yield rank, *(float((got - exact).norm() / exact.norm()) for got in (once, often))


def rows_of(name, layers, ranks):
    length, width = layers[0][0].shape[-2:]
    for rank, once, often in errors(layers, ranks):
        yield {
            "heads": name,
            "tokens": length,
            "8.33 ln n": embedding_dimension(length),
            "rank": rank,
            "rank / width": f"{rank / width:.1f}",
            "error, at once": f"{once:.1e}",
            "error, layer by layer": f"{often:.1e}",
        }


def variances(layers, features):
    """Median over pairs of log10 of FAVOR+'s predicted relative variance, after each layer."""
    factors = None
    for number, (query, key, _) in enumerate(layers, start=1):
        query, key = query[:, :, ::8], key[:, :, ::8]
        factors = Factors.of(query, key) if factors is None else factors.then(query, key, 1.0)
        log10 = predicted_log_variance(factors, features) / math.log(10)
        yield {
            "layers": number,
            "features": features,
            "log10 of relative variance, median": f"{log10.median():.1f}",
            "best tenth of pairs": f"{log10.flatten().quantile(0.1):.1f}",
        }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 2048])
    parser.add_argument("--ranks", type=int, nargs="+", default=[16, 32, 48, 64, 96, 128, 160])
    given = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as place:
        longer = Path(place) / "longer"
        extend(None, longer, max_length=max(given.lengths))
        model = load_weights(find_checkpoint(longer))
        ids = load_tokenizer(longer, lowercase=False)(render("argparse")).ids
    for length in given.lengths:
        layers = heads_of(model, torch.tensor(ids[None, :length], dtype=torch.long))
        rows.extend(rows_of("all-MiniLM-L6-v2", layers, given.ranks))
        noise = torch.Generator().manual_seed(0)
        alike = [
            tuple(torch.randn(x.shape, generator=noise) * x.std() for x in layer)
            for layer in layers
        ]
        rows.extend(rows_of("noise as large", alike, given.ranks[1::2]))
    machine.report("residual_compressed", rows)
    print()
    machine.report("residual_variance", list(variances(layers, 256)))


if __name__ == "__main__":
    main()
