"""What multipole attention errs on real text, head by head, beside simpler ways to spend the keys.

For every document, layer and head of the default model with a longer position table: the relative
error |O' - O| / |O| at sampled rows against exact attention on the same queries, keys and values.
Key evaluations count multiplications, see `unabridged.attention.multipole_choice.evaluations`.

    python benchmarks/attention_quality.py --data DATA --length 2048 --documents 20
"""

from __future__ import annotations

import argparse
import json
import math
from collections import defaultdict
from pathlib import Path
from statistics import mean, median

import torch
from torch import Tensor

from machine import RESULTS, data_folder, report
from unabridged.attention.exact import Exact
from unabridged.attention.multipole import Multipole
from unabridged.encoder import LongEncoder
from unabridged.encoder.extension import extend
from unabridged.encoder.reading import Full

ROWS = 256
MULTIPOLES = {
    "multipole, the default": Multipole(short=0),
    "multipole, blocks of 32, tolerance 0.12": Multipole(
        tolerance=0.12, block=32, group=32, short=0
    ),
    "multipole, tolerance 0.3": Multipole(tolerance=0.3, short=0),
    "multipole, blocks of 32, near 256": Multipole(near=256, block=32, group=32, short=0),
}


class Watched:
    """Exact attention that measures everything else on the way."""

    def __init__(self, multipoles: dict[str, Multipole]) -> None:
        self.multipoles = multipoles
        self.errors: dict[str, list[float]] = defaultdict(list)
        self.shares: dict[str, list[float]] = defaultdict(list)
        self.on = False

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, **options: float) -> Tensor:
        """Mixed values, exactly."""
        exact = Exact()(query, key, value, **options)
        if self.on:
            self._measure(query[0], key[0], value[0], exact[0], options["scale"])
        return exact

    def _measure(self, query: Tensor, key: Tensor, value: Tensor, exact: Tensor, scale: float):
        n = query.shape[1]
        rows = torch.randperm(n, generator=torch.Generator().manual_seed(0))[:ROWS]
        wanted = exact[:, rows]
        scores = scale * query[:, rows] @ key.transpose(1, 2)
        for name, (keys, mixed) in simple(scores, value, rows).items():
            self._note(name, mixed, wanted, [keys / n] * len(query))
        for name, attention in self.multipoles.items():
            chosen, _ = attention.choices(query * scale, key, value)
            mixed = attention(query[None], key[None], value[None], scale=scale)[0][:, rows]
            self._note(name, mixed, wanted, [min(1.0, one.cost / n) for one in chosen])

    def _note(self, name: str, mixed: Tensor, wanted: Tensor, shares: list[float]) -> None:
        difference = (mixed - wanted).flatten(1).norm(dim=1) / wanted.flatten(1).norm(dim=1)
        self.errors[name] += difference.tolist()
        self.shares[name] += shares


def simple(scores: Tensor, value: Tensor, rows: Tensor) -> dict[str, tuple[int, Tensor]]:
    """Keys a query, and outputs, of three ways that know nothing of blocks."""
    n = value.shape[1]
    places = torch.arange(n)
    window = (places - rows[:, None]).abs() <= 64
    window[:, [0, -1]] = True
    found = {
        "mean of all values": (0, value.mean(1, keepdim=True).expand(-1, len(rows), -1)),
        "window of 64 each way, first and last": (131, masked(scores, window, value)),
    }
    for k in (n // 32, n // 11):
        best = torch.zeros_like(scores, dtype=torch.bool)
        best.scatter_(-1, scores.topk(k, dim=-1).indices, True)
        found[f"oracle: the best {'1/32' if k == n // 32 else '1/11'}"] = (
            k,
            masked(scores, best, value),
        )
    return found


def masked(scores: Tensor, seen: Tensor, value: Tensor) -> Tensor:
    return scores.masked_fill(~seen, -math.inf).softmax(-1) @ value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", help="folder of the development data; else UNABRIDGED_DATA")
    parser.add_argument("--length", type=int, default=2048)
    parser.add_argument("--documents", type=int, default=20)
    parser.add_argument("--settings", type=int, default=4, help="how many of the four settings")
    options = parser.parse_args()
    data = data_folder(options.data)
    if data is None:
        return
    folder = (RESULTS / f"model-{options.length}").absolute()
    if not folder.exists():
        RESULTS.mkdir(exist_ok=True)
        extend(None, folder, max_length=options.length)
    rows = measure(sorted((data / "qmsum" / "documents").glob("*.txt")), folder, options)
    report(f"attention-quality-{options.length}", rows, {"tokens": options.length})


def measure(places: list[Path], folder: Path, options: argparse.Namespace) -> list[dict]:
    multipoles = dict(list(MULTIPOLES.items())[: options.settings])
    watched = Watched(multipoles)
    exact = LongEncoder(folder, reader=Full(), dtype="float32", attention=watched)
    others = {
        name: LongEncoder(folder, reader=Full(), dtype="float32", attention=attention)
        for name, attention in multipoles.items()
    }
    cosines: dict[str, list[float]] = defaultdict(list)
    used = 0
    for place in places:
        text = cut(exact, place.read_text(encoding="utf-8"), options.length)
        if text is None:
            continue
        used += 1
        watched.on = True
        wanted = torch.as_tensor(exact.encode(text))
        watched.on = False
        for name, encoder in others.items():
            found = torch.as_tensor(encoder.encode(text))
            cosines[name].append(torch.cosine_similarity(found, wanted, dim=0).item())
        print(json.dumps({"document": place.stem, "used": used}), flush=True)
        if used == options.documents:
            break
    return [table_row(name, watched, cosines.get(name), used) for name in watched.errors]


def table_row(name: str, watched: Watched, cosines: list[float] | None, used: int) -> dict:
    errors = sorted(watched.errors[name])
    return {
        "method": name,
        "documents": used,
        "key evaluations": f"{mean(watched.shares[name]):.1%}",
        "error, median head": round(median(errors), 4),
        "90 % of heads": round(errors[int(0.9 * len(errors))], 4),
        "worst head": round(errors[-1], 4),
        "pooled cosine, mean": round(mean(cosines), 5) if cosines else "-",
        "least": round(min(cosines), 5) if cosines else "-",
    }


def cut(encoder: LongEncoder, text: str, length: int) -> str | None:
    """The first tokens of a text, as many as the pass holds; None if it is shorter."""
    tokens = encoder._pipeline.tokenizer(text)
    if len(tokens) < length - 2:
        return None
    return text[: int(tokens.chars[length - 3, 1])]


if __name__ == "__main__":
    main()
