"""A small encoder trained from scratch with FAVOR, and with softmax attention, step for step alike.

Masked language modelling on what Python's packages say of themselves (benchmarks/documentation.py),
in blocks of tokens of a vocabulary made from that text. Same first weights, same batches, same
masks; what differs is the attention alone. "mean" replaces attention by the mean value: what the
task gives to a model that cannot choose where to look.

Two tasks. "topics": BERT's first weights and learned positions, of which so short a training makes
little: attention learns what a text is about, which the mean of its values tells nearly as well.
"neighbours": sinusoidal positions that are large from the start, so that attention soon learns to
look at the tokens beside a masked one, sharply; that is what random features find hard.

    python benchmarks/favor_training.py --task neighbours run favor 0
    python benchmarks/favor_training.py --task neighbours report

A run that was stopped continues when called again; the report has all that are finished.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from documentation import pages
from machine import RESULTS, report
from unabridged.attention.exact import Exact
from unabridged.attention.favor import Favor
from unabridged.attention.protocol import Attention
from unabridged.encoder.tokens import TextTokenizer
from unabridged.positions import sinusoidal
from unabridged.training.compact import CompactEncoder, Shape, logits_at
from unabridged.training.corpus import Batches, Corpus
from unabridged.training.loop import Settings, train
from unabridged.training.masking import MaskedLanguageModel, Masking
from unabridged.training.schedule import Schedule

FOLDER = RESULTS / "favor_training"
MARKS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VOCABULARY = 512
DOCUMENTS = 400
HELD_OUT = 16_384  # tokens
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Mean:
    """No attention at all: every query gets the mean value."""

    def __call__(self, query, key, value, *, key_mask=None, causal=False, scale=None):  # noqa: ARG002, D102
        return value.mean(2, keepdim=True).expand(*query.shape[:3], value.shape[3])


@dataclass(frozen=True)
class Task:
    """What is trained, and how.

    Attributes:
        shape: of the encoder.
        batch: blocks of a step.
        steps: of a run.
        rate: the highest rate of learning.
        favor: its random features.
        gain: of all first weights of the layers, and of sinusoidal positions.
    """

    shape: Shape
    batch: int
    steps: int
    rate: float
    favor: Favor
    gain: float = 1.0

    def attention(self, name: str) -> Attention:
        """By its name on the command line."""
        return {"exact": Exact(), "favor": self.favor, "mean": Mean()}[name]

    def model(self, name: str, seed: int) -> CompactEncoder:
        """With its first weights."""
        made = CompactEncoder(self.shape, seed=seed, attention=self.attention(name))
        with torch.no_grad():
            for part in made.blocks.parameters():
                if part.ndim == 2:
                    part *= self.gain
            if self.shape.positions == "sinusoidal":
                size = self.gain * made.places.weight.square().mean().sqrt()
                table = sinusoidal(self.shape.length, self.shape.width, base=SHORT)
                made.places.weight.copy_(size * table / table.square().mean().sqrt())
        return made


NAMES = ("exact", "favor", "mean")
SHORT = 30.0
"""Base of sinusoids the longest of which are as long as a block."""

COMMON = {"vocabulary": VOCABULARY, "width": 64, "layers": 2}
TASKS = {
    "topics": Task(
        Shape(**COMMON, heads=2, length=256),
        batch=8,
        steps=6000,
        rate=2e-3,
        favor=Favor(features=128, kind="favor+", invariances="keys"),
    ),
    "neighbours": Task(
        Shape(**COMMON, heads=4, length=128, architecture="pre-norm", positions="sinusoidal"),
        batch=16,
        steps=1000,
        rate=6e-3,
        favor=Favor(),
        gain=6.0,
    ),
}


def vocabulary(texts: list[str], path: Path) -> Tokenizer:
    """WordPiece made from the texts, once."""
    if path.exists():
        return Tokenizer.from_file(str(path))
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=VOCABULARY, special_tokens=MARKS)
    made.train_from_iterator(texts, trainer)
    made.save(str(path))
    return made


class Marked:
    """A tokenizer that puts [CLS] before and [SEP] after a block."""

    specials = ([MARKS.index("[CLS]")], [MARKS.index("[SEP]")])

    def __init__(self, backend: Tokenizer) -> None:
        self._tokens = TextTokenizer(backend, MARKS.index("[UNK]"))

    def __call__(self, text: str):  # noqa: D102
        return self._tokens(text)


def corpus() -> tuple[Corpus, list[int], list[int]]:
    """Tokens of all documents, and which are trained on and which are held out."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    place = FOLDER / "corpus"
    if not (place / "corpus.json").exists():
        found = pages((FOLDER / "documents").resolve())
        chosen = np.random.default_rng(0).permutation(len(found))[:DOCUMENTS]
        texts = [found[place].text for place in sorted(chosen.tolist())]
        Corpus.write(place, texts, Marked(vocabulary(texts, FOLDER / "vocabulary.json")))
    written = Corpus.open(place)
    order = np.random.default_rng(0).permutation(len(written)).tolist()
    cut = len(order) // 10
    return written, sorted(order[cut:]), sorted(order[:cut])


def run(task: str, name: str, seed: int) -> None:
    chosen = TASKS[task]
    length, size = chosen.shape.length, chosen.batch
    written, seen, unseen = corpus()
    blocks = written.blocks(length, documents=seen)
    others = Batches(written.blocks(length, documents=unseen), size=size, seed=0)
    model = chosen.model(name, seed)
    masking = Masking(MARKS.index("[MASK]"), VOCABULARY, tuple(range(len(MARKS))))
    trained = train(
        model,
        MaskedLanguageModel(masking, logits_at),
        Batches(blocks, size=size, seed=seed),
        folder=FOLDER / task / f"{name}-{seed}",
        settings=Settings(
            steps=chosen.steps,
            schedule=Schedule(peak=chosen.rate, warmup=0.1),
            look_every=100,
            seed=seed,
        ),
        held_out=[others(number) for number in range(HELD_OUT // (size * length))],
        on_step=lambda step: (
            step.number % 50 or print(name, seed, step.number, step.loss, step.seconds, flush=True)
        ),
    )
    if trained.ended == "finished":
        facts = {
            "attention": name,
            "seed": seed,
            "steps": trained.steps,
            "seconds": trained.seconds,
            "held_out": trained.held_out,
            "tokens": len(written.ids),
        }
        (FOLDER / task / f"{name}-{seed}.json").write_text(json.dumps(facts))


def summarise(task: str) -> None:
    found = [json.loads(path.read_text()) for path in sorted((FOLDER / task).glob("*.json"))]
    losses = {(one["attention"], one["seed"]): one["held_out"] for one in found}
    if not found:
        print("no run is finished; start one with `run favor 0`.")
        return
    rows = []
    for seed in SEEDS:
        row: dict[str, object] = {"seed": seed}
        exact = losses.get(("exact", seed))
        for name in NAMES:
            loss = losses.get((name, seed))
            row[name] = "-" if loss is None else f"{loss:.4f}"
            if name != "exact":
                known = loss is not None and exact is not None
                row[f"{name} over exact"] = f"{loss / exact - 1:+.2%}" if known else "-"
        rows.append(row)
    chosen = TASKS[task]
    about = {
        "task": f"masked language modelling, {found[0]['tokens']:,} tokens of documentation, "
        f"{chosen.steps} steps of {chosen.batch} x {chosen.shape.length} tokens; "
        "held-out loss, nats",
        "shape": str(chosen.shape),
        "favor": str(chosen.favor),
    }
    report(f"favor_training-{task}", rows, about)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--task", choices=TASKS, default="topics")
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("run", help="train one model, or continue")
    one.add_argument("attention", choices=NAMES)
    one.add_argument("seed", type=int)
    commands.add_parser("report", help="tabulate what is finished")
    options = parser.parse_args()
    torch.manual_seed(0)
    if options.command == "run":
        run(options.task, options.attention, options.seed)
    else:
        summarise(options.task)


if __name__ == "__main__":
    main()
