"""What multipole attention errs on real text, head by head, beside simpler ways to spend the keys.

For every document, layer and head of the default model with a longer position table: the relative
error |O' - O| / |O| at sampled rows against exact attention on the same queries, keys and values.
Key evaluations count multiplications, those that finding a plan takes included; see
`unabridged.attention.multipole.price`. Documents are meeting transcripts; where one is too short
the next ones follow it. Every document leaves a file, so that a run can be stopped and taken up.

    python benchmarks/attention_quality.py --data DATA --length 2048 --documents 20
    python benchmarks/attention_quality.py --data DATA --length 16384 --documents 20 --settings 1
"""

from __future__ import annotations

import argparse
import hashlib
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
    "multipole": Multipole(short=0),
    "multipole, tolerance 0.07": Multipole(tolerance=0.07, short=0),
    "multipole, 256 near keys in every head": Multipole(near=256, block=64, group=32, short=0),
}
"""The first line is the default."""


class Watched:
    """Exact attention that measures everything else on the way."""

    def __init__(self, multipoles: dict[str, Multipole]) -> None:
        self.multipoles = multipoles
        self.start()
        self.on = False

    def start(self) -> None:
        """Forget the last document and measure the next one."""
        self.errors: dict[str, list[float]] = defaultdict(list)
        self.shares: dict[str, list[float]] = defaultdict(list)
        self.on = True

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
            decided = attention.decisions(query * scale, key, value)
            mixed = attention(query[None], key[None], value[None], scale=scale)[0][:, rows]
            self._note(name, mixed, wanted, [one.cost / n for one in decided])

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
    parser.add_argument("--settings", type=int, default=3, help="how many of the settings")
    options = parser.parse_args()
    data = data_folder(options.data)
    if data is None:
        return
    multipoles = dict(list(MULTIPOLES.items())[: options.settings])
    settings = hashlib.sha256(repr(multipoles).encode()).hexdigest()[:8]
    kept = (RESULTS / f"attention-quality-{options.length}-{settings}").absolute()
    kept.mkdir(parents=True, exist_ok=True)
    places = sorted((data / "qmsum" / "documents").glob("*.txt"))
    measure(places, multipoles, kept, options)
    found = [json.loads(place.read_text()) for place in sorted(kept.glob("*.json"))]
    names = list(found[0]["errors"])
    report(
        f"attention-quality-{options.length}",
        [table_row(name, found) for name in names],
        {
            "tokens of a document": options.length,
            "documents": len(found),
            "multipole": str(MULTIPOLES["multipole"]),
        },
    )


def measure(
    places: list[Path],
    multipoles: dict[str, Multipole],
    kept: Path,
    options: argparse.Namespace,
) -> None:
    """One file a document."""
    folder = kept / "model"
    if not folder.exists():
        extend(None, folder, max_length=options.length)
    watched = Watched(multipoles)
    exact, *others = (
        LongEncoder(folder, reader=Full(), dtype="float32", attention=attention)
        for attention in (watched, *multipoles.values())
    )
    texts = [place.read_text(encoding="utf-8") for place in places]
    for number, place in enumerate(places[: options.documents]):
        target = kept / f"{place.stem}.json"
        if target.exists():
            continue
        text = cut(exact, texts[number:] + texts[:number], options.length)
        watched.start()
        wanted = torch.as_tensor(exact.encode(text))
        watched.on = False
        cosines = {
            name: torch.cosine_similarity(torch.as_tensor(one.encode(text)), wanted, dim=0).item()
            for name, one in zip(multipoles, others, strict=True)
        }
        found = {"errors": watched.errors, "shares": watched.shares, "cosines": cosines}
        target.write_text(json.dumps(found))


def table_row(name: str, found: list[dict]) -> dict:
    errors = sorted(error for one in found for error in one["errors"][name])
    shares = [share for one in found for share in one["shares"][name]]
    cosines = [one["cosines"][name] for one in found if name in one["cosines"]]
    return {
        "method": name,
        "key evaluations": f"{mean(shares):.1%}",
        "error, median head": round(median(errors), 4),
        "90 % of heads": round(errors[int(0.9 * len(errors))], 4),
        "worst head": round(errors[-1], 4),
        "pooled cosine, mean": round(mean(cosines), 5) if cosines else "-",
        "least": round(min(cosines), 5) if cosines else "-",
    }


def cut(encoder: LongEncoder, texts: list[str], length: int) -> str:
    """The first tokens of texts that follow each other, as many as the pass holds."""
    for count in range(1, len(texts) + 1):
        text = "\n".join(texts[:count])
        tokens = encoder._pipeline.tokenizer(text)
        if len(tokens) >= length - 2:
            return text[: int(tokens.chars[length - 3, 1])]
    raise SystemExit(f"all transcripts together have {len(tokens)} tokens; wanted {length}.")


if __name__ == "__main__":
    main()
