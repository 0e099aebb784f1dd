"""A pretrained encoder whose attention is replaced by FAVOR, before and after self-distillation.

What is lost: titles of documentation pages find their page less often (one vector a page, of its
first tokens; titles are held back from the pages). The teacher is the model as it was, with exact
attention; the student has the same weights and FAVOR, and is asked for the teacher's states after
every layer and for its vectors, on blocks and on short pieces (titles are short) of other pages.
What of the loss comes back, on pages that were not trained on, is printed.

    python benchmarks/favor_adaptation.py run      # train; stopped, it continues when called again
    python benchmarks/favor_adaptation.py report   # retrieval with exact attention, before, after
"""

from __future__ import annotations

import argparse
import copy
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812

from documentation import Page, pages
from machine import RESULTS, report
from unabridged.attention.favor import Favor
from unabridged.encoder import LongEncoder, Truncate
from unabridged.encoder.checkpoint import find_checkpoint
from unabridged.encoder.loading import load_weights
from unabridged.encoder.precision import probe_precision
from unabridged.encoder.registry import set_attention
from unabridged.encoder.tokens import load_tokenizer
from unabridged.training.corpus import Batch, Batches, Corpus
from unabridged.training.loop import Settings, train
from unabridged.training.schedule import Schedule

FOLDER = RESULTS / "favor_adaptation"
ASKED = 200
TOKENS = 2048  # of a step
SHORT = 16  # tokens of a piece
POOLED = 10.0
RESAMPLES = 2000


def split() -> tuple[list[Page], list[Page]]:
    """Pages that are asked for, and pages that are trained on."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    kept = FOLDER / "pages.json"
    if not kept.exists():  # reading the sources of all packages takes a minute
        found = pages((FOLDER / "documents").resolve())
        kept.write_text(json.dumps([asdict(page) for page in found]))
    found = [Page(**page) for page in json.loads(kept.read_text())]
    order = np.random.default_rng(0).permutation(len(found))
    chosen = set(order[:ASKED].tolist())
    asked = [page for place, page in enumerate(found) if place in chosen]
    return asked, [page for place, page in enumerate(found) if place not in chosen]


def attention(options: argparse.Namespace) -> Favor:
    return Favor(features=options.features, kind=options.kind, invariances=options.invariances)


def place_of(options: argparse.Namespace) -> Path:
    features = (options.kind, options.invariances, options.features)
    names = (*features, options.length, options.steps, options.rate)
    return FOLDER / "-".join(str(name).replace("#", "-sharp") for name in names)


class Layerwise:
    """1 - cosine of the student's and the teacher's states after every layer, and of the means.

    The means, one term beside six layers, count `POOLED` times: they are what retrieval sees.
    """

    def __init__(self, teacher: torch.nn.Module) -> None:
        self.teacher = teacher

    def __call__(self, model, batches, generator):  # noqa: ARG002  the signature of an objective
        """The mean over blocks and pieces."""
        return sum(self._loss(model, batch) for batch in batches) / len(batches)

    def _loss(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        given = {"input_ids": batch.ids, "attention_mask": batch.attention_mask}
        with torch.no_grad():
            wanted = self.teacher(**given, output_hidden_states=True).hidden_states[1:]
        got = model(**given, output_hidden_states=True).hidden_states[1:]
        real = batch.real
        layers = [
            (1 - F.cosine_similarity(a[real].float(), b[real].float(), dim=-1)).mean()
            for a, b in zip(got, wanted, strict=True)
        ]
        weights = real[..., None].float()
        means = [(states[-1].float() * weights).sum(1) for states in (got, wanted)]
        return sum(layers) + POOLED * (1 - F.cosine_similarity(*means, dim=-1)).mean()


def both(corpus: Corpus, documents: list[int], length: int) -> Callable[[int], list[Batch]]:
    """Blocks, and an eighth as many tokens again in short pieces."""
    parts = [
        Batches(corpus.blocks(size, documents=documents), size=max(1, tokens // size), seed=0)
        for size, tokens in ((length, TOKENS), (SHORT, TOKENS // 8))
    ]
    return lambda number: [part(number) for part in parts]


def run(options: argparse.Namespace) -> None:
    checkpoint = find_checkpoint(None)
    tokenizer = load_tokenizer(checkpoint.transformer, lowercase=False)
    corpus_place = FOLDER / "corpus"
    if not (corpus_place / "corpus.json").exists():
        Corpus.write(corpus_place, [page.text for page in split()[1]], tokenizer)
    corpus = Corpus.open(corpus_place)
    held_out = list(range(0, len(corpus), 40))
    seen = [document for document in range(len(corpus)) if document % 40]
    teacher = load_weights(checkpoint)
    student = copy.deepcopy(teacher).requires_grad_(True)
    set_attention(student, attention(options))
    others = both(corpus, held_out, options.length)
    place = place_of(options)
    trained = train(
        student,
        Layerwise(teacher),
        both(corpus, seen, options.length),
        folder=place,
        settings=Settings(
            steps=options.steps,
            schedule=Schedule(peak=options.rate, warmup=0.1),
            precision=probe_precision().name,
            dropout="off",
            look_every=25,
        ),
        held_out=[others(number) for number in range(2)],
        on_step=lambda step: (
            step.number % 25 == 0 and print(step.number, step.loss, step.held_out, step.seconds)
        ),
    )
    print(trained)
    if trained.ended != "interrupted":
        shutil.copytree(checkpoint.folder, place / "model", dirs_exist_ok=True)
        student.save_pretrained(place / "model")


def ranks(name: str, model: Path | None, mixed: Favor | None, length: int) -> np.ndarray:
    """Rank of every title's own page, from 0; kept, because reading the pages takes a while."""
    made_with = mixed and f"{mixed.kind}-{mixed.invariances}-{mixed.features}"
    kept = FOLDER / f"ranks-{name}-{made_with}-{model and model.parent.name}-{length}.npy"
    if kept.exists():
        return np.load(kept)
    asked = split()[0]
    encoder = LongEncoder(model, reader=Truncate(length - 2), attention=mixed)
    queries, documents = (
        F.normalize(
            torch.as_tensor(encoder.encode([getattr(page, part) for page in asked])), dim=-1
        )
        for part in ("title", "text")
    )
    scores = (queries @ documents.T).numpy()
    found = (scores > np.diag(scores)[:, None]).sum(1)
    np.save(kept, found)
    return found


def ndcg(rank: np.ndarray) -> np.ndarray:
    return np.where(rank < 10, 1 / np.log2(rank + 2.0), 0)


def summarise(options: argparse.Namespace) -> None:
    chosen = attention(options)
    adapted = place_of(options) / "model"
    lines: dict[str, tuple[Path | None, Favor | None]] = {
        "exact": (None, None),
        "favor before": (None, chosen),
    }
    if adapted.exists():
        lines["favor after"] = (adapted, chosen)
    found = {name: ranks(name, *line, options.length) for name, line in lines.items()}
    quality = {name: ndcg(rank) for name, rank in found.items()}
    lost = quality["exact"].mean() - quality["favor before"].mean()
    rows = [
        {
            "attention": name,
            "nDCG@10": f"{values.mean():.4f}",
            "recall@1": f"{(found[name] == 0).mean():.4f}",
            "of the loss": f"{(values.mean() - quality['favor before'].mean()) / lost:.1%}",
            "95 %": recovered(quality, name),
        }
        for name, values in quality.items()
    ]
    about = {
        "favor": str(chosen),
        "pages": ASKED,
        "tokens of a page": options.length,
        "rate": options.rate,
    }
    if adapted.exists():
        history = [json.loads(line) for line in (adapted.parent / "history.jsonl").open()]
        seconds = max(line.get("seconds", 0.0) for line in history)
        about["training"] = (
            f"{options.steps} steps of {TOKENS + TOKENS // 8} tokens in {seconds:.0f} seconds"
        )
    report(f"favor_adaptation-{place_of(options).name}", rows, about)


def recovered(quality: dict[str, np.ndarray], name: str) -> str:
    """Paired bootstrap over titles of the recovered share."""
    rng = np.random.default_rng(0)
    draws = rng.integers(ASKED, size=(RESAMPLES, len(quality["exact"])))
    exact, before, now = (quality[key][draws].mean(1) for key in ("exact", "favor before", name))
    low, high = np.quantile((now - before) / np.maximum(exact - before, 1e-9), [0.025, 0.975])
    return f"{low:.0%} to {high:.0%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("command", choices=("run", "report"))
    parser.add_argument("--features", type=int, default=256)
    parser.add_argument("--kind", default="favor#")
    parser.add_argument("--invariances", default="monge")
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--steps", type=int, default=450)
    parser.add_argument("--rate", type=float, default=1e-4)
    options = parser.parse_args()
    (run if options.command == "run" else summarise)(options)


if __name__ == "__main__":
    main()
