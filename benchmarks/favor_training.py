"""A small encoder trained from scratch with FAVOR, and with softmax attention, step for step alike.

Masked language modelling on what Python's packages say of themselves (benchmarks/documentation.py),
in blocks of 256 tokens of a vocabulary made from that text. Same first weights, same batches, same
masks; what differs is the attention alone. "mean" replaces attention by the mean value: what the
task gives to a model that cannot attend, so that small differences between the others can be told
from a task that needs no attention.

    python benchmarks/favor_training.py run favor 0     # one run; stopped, it continues when called
    python benchmarks/favor_training.py report          # a table of all runs that are finished
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
from unabridged.encoder.tokens import TextTokenizer
from unabridged.training.compact import CompactEncoder, Shape, logits_at
from unabridged.training.corpus import Batches, Corpus
from unabridged.training.loop import Settings, train
from unabridged.training.masking import MaskedLanguageModel, Masking
from unabridged.training.schedule import Schedule

FOLDER = RESULTS / "favor_training"
MARKS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VOCABULARY, LENGTH, BATCH, STEPS = 512, 256, 8, 1500
DOCUMENTS = 400
HELD_OUT_BLOCKS = 64
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Mean:
    """No attention at all: every query gets the mean value."""

    def __call__(self, query, key, value, *, key_mask=None, causal=False, scale=None):  # noqa: ARG002, D102
        return value.mean(2, keepdim=True).expand(*query.shape[:3], value.shape[3])


ATTENTIONS = {
    "exact": Exact(),
    "favor": Favor(features=128, kind="favor+", invariances="keys"),
    "mean": Mean(),
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


def run(name: str, seed: int, steps: int) -> None:
    written, seen, unseen = corpus()
    blocks = written.blocks(LENGTH, documents=seen)
    others = Batches(written.blocks(LENGTH, documents=unseen), size=BATCH, seed=0)
    shape = Shape(vocabulary=VOCABULARY, width=64, layers=2, heads=2, length=LENGTH)
    model = CompactEncoder(shape, seed=seed, attention=ATTENTIONS[name])
    masking = Masking(MARKS.index("[MASK]"), VOCABULARY, tuple(range(len(MARKS))))
    trained = train(
        model,
        MaskedLanguageModel(masking, logits_at),
        Batches(blocks, size=BATCH, seed=seed),
        folder=FOLDER / f"{name}-{seed}-{steps}",
        settings=Settings(
            steps=steps, schedule=Schedule(peak=2e-3, warmup=0.1), look_every=100, seed=seed
        ),
        held_out=[others(number) for number in range(HELD_OUT_BLOCKS // BATCH)],
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
        (FOLDER / f"{name}-{seed}-{steps}.json").write_text(json.dumps(facts))


def summarise(steps: int) -> None:
    found = [json.loads(path.read_text()) for path in sorted(FOLDER.glob(f"*-{steps}.json"))]
    losses = {(one["attention"], one["seed"]): one["held_out"] for one in found}
    if not found:
        print("no run is finished; start one with `run favor 0`.")
        return
    rows = []
    for seed in SEEDS:
        row: dict[str, object] = {"seed": seed}
        exact = losses.get(("exact", seed))
        for name in ATTENTIONS:
            loss = losses.get((name, seed))
            row[name] = "-" if loss is None else f"{loss:.4f}"
            if name != "exact":
                known = loss is not None and exact is not None
                row[f"{name} over exact"] = f"{loss / exact - 1:+.2%}" if known else "-"
        rows.append(row)
    about = {
        "task": f"masked language modelling, {found[0]['tokens']:,} tokens of documentation, "
        f"{steps} steps of {BATCH} x {LENGTH} tokens, vocabulary {VOCABULARY}; held-out loss, nats",
        "favor": str(ATTENTIONS["favor"]),
    }
    report("favor_training", rows, about)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=STEPS)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("run", help="train one model, or continue")
    one.add_argument("attention", choices=ATTENTIONS)
    one.add_argument("seed", type=int)
    commands.add_parser("report", help="tabulate what is finished")
    options = parser.parse_args()
    torch.manual_seed(0)
    if options.command == "run":
        run(options.attention, options.seed, options.steps)
    else:
        summarise(options.steps)


if __name__ == "__main__":
    main()
