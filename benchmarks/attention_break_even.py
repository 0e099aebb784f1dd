"""From which length on an approximation is faster than exact attention, in a layer of MiniLM.

Queries, keys and values are those of the default model, extended, on documentation of Python's
packages put one after another. Times are the least of some alternating runs, forward only.

    python benchmarks/attention_break_even.py --lengths 512 1024 2048 4096 8192 16384
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch

from documentation import pages
from machine import RESULTS, report
from unabridged.attention.dispatch import Auto
from unabridged.attention.exact import Exact
from unabridged.attention.favor import Favor
from unabridged.attention.multipole import Multipole
from unabridged.attention.sampling import relative_error, sampled_rows
from unabridged.encoder import LongEncoder
from unabridged.encoder.extension import extend
from unabridged.encoder.reading import Full

MEMBERS = {
    "exact": Exact(),
    "favor": Favor(),
    "multipole": Multipole(short=0),
    "auto": Auto(short=0),
}
ROUNDS = 3


def heads_of_layers(longest: int, layers: tuple[int, ...]) -> list[tuple[torch.Tensor, ...]]:
    """Query, key and value of some layers on one long text."""
    seen: list[tuple[torch.Tensor, ...]] = []

    def witness(query, key, value, *, key_mask=None, causal=False, scale=None):  # noqa: ARG001
        seen.append((query.clone(), key.clone(), value.clone()))
        return Multipole()(query, key, value, scale=scale)

    texts = [page.text for page in pages((RESULTS / "documents").resolve())[:40]]
    with tempfile.TemporaryDirectory() as folder:
        extend(None, Path(folder) / "longer", max_length=longest)
        encoder = LongEncoder(
            Path(folder) / "longer", reader=Full(), dtype="float32", attention=witness
        )
        seen.clear()
        text = "\n".join(texts)
        while encoder.count_tokens(text) > longest - 2:
            text = text[: int(len(text) * 0.95)]
        encoder.encode(text)
    return [seen[layer] for layer in layers]


def timed(attention, heads) -> float:
    began = time.perf_counter()
    attention(*heads)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    lengths = [512, 1024, 2048, 4096, 8192]
    parser.add_argument("--lengths", type=int, nargs="+", default=lengths)
    parser.add_argument("--layers", type=int, nargs="+", default=[0, 2, 5])
    options = parser.parse_args()
    rows = []
    with torch.inference_mode():
        captured = heads_of_layers(max(options.lengths), tuple(options.layers))
        for length in options.lengths:
            for layer, whole in zip(options.layers, captured, strict=True):
                heads = tuple(part[:, :, :length] for part in whole)
                rounds = [
                    {name: timed(member, heads) for name, member in MEMBERS.items()}
                    for _ in range(ROUNDS)
                ]
                best = {name: min(one[name] for one in rounds) for name in MEMBERS}
                asked = sampled_rows(length, 128)
                wanted = Exact()(heads[0][:, :, asked], *heads[1:])
                row = {"tokens": length, "layer": layer}
                row |= {f"{name}, ms": f"{1000 * least:.1f}" for name, least in best.items()}
                for name in ("favor", "multipole"):
                    errors = relative_error(MEMBERS[name](*heads)[:, :, asked], wanted)
                    row[f"{name}, worst head"] = f"{errors.max():.3f}"
                chosen = MEMBERS["auto"].decide(*heads).chosen[0]
                row["auto"] = ", ".join(f"{chosen.count(n)} {n}" for n in sorted(set(chosen)))
                rows.append(row)
    report("attention_break_even", rows, {"rounds": ROUNDS})


if __name__ == "__main__":
    main()
