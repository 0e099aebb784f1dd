"""A masked language model beyond the positions that it was trained with, before and after adapt.

A small BERT (the embeddings and first three layers of all-MiniLM-L6-v2 under a new head) is trained
here to guess words in inputs of 512 tokens, extended to 2,048 by the hierarchical decomposition of
its position table, and adapted on documents by `adapt`. Accuracy is that of guessing hidden tokens
in whole inputs of 2,048 tokens of documents never trained on, apart for positions below and beyond
512. Inputs begin anywhere in a document, so both sides see the same kind of text. The post that the
table is from (kexue.fm/archives/7947) reports 38 % -> 55 % for RoBERTa.

Interrupted (Ctrl-C, SIGTERM), it saves; the same command continues.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM, AutoTokenizer, BertForMaskedLM

from documentation import pages
from machine import report
from unabridged.encoder.checkpoint import find_checkpoint
from unabridged.encoder.extension import extend
from unabridged.encoder.tokens import load_tokenizer
from unabridged.training import (
    Batches,
    Corpus,
    MaskedLanguageModel,
    Masking,
    Schedule,
    Settings,
    train,
)
from unabridged.training.adaptation import Recipe, adapt
from unabridged.training.masking import logits_of_checkpoint
from unabridged.training.seeds import generator
from unabridged.training.segments import Segments

SHORT, LONG = 512, 2048
LAYERS = 3
HELD_OUT = 0.1


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--work", type=Path, default=Path("results/adaptation-masked"))
    options.add_argument("--steps", type=int, default=240, help="of the first training")
    options.add_argument("--adapt-steps", type=int, default=200)
    options.add_argument("--inputs", type=int, default=48, help="held-out inputs of 2,048 tokens")
    given = options.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    train_folder, held_out = documents(given.work)
    small = given.work / "small"
    if not small.exists() and not first_training(given, small, train_folder):
        return
    if not (given.work / "extended").exists():
        extend(small, given.work / "extended", max_length=LONG)
    adapted = given.work / "adapted"
    if not adapted.exists():
        recipe = Recipe(
            max_length=LONG, minutes=None, steps=given.adapt_steps, rate=5e-4, precision="bfloat16",
            documents=2,
        )  # fmt: skip
        began = time.process_time()
        made = adapt(small, train_folder, adapted, recipe=recipe, on_step=tell)
        spent(given.work, "adapt", time.process_time() - began)
        if made.ended == "interrupted":
            print("interrupted; the same command continues")
            return
    compare(given, held_out)


def documents(work: Path) -> tuple[Path, list[str]]:
    """A folder of training documents, and the texts held out."""
    folder, kept = work / "train", work / "held_out.json"
    if not folder.exists():
        found = pages(work / "documentation")
        order = np.random.default_rng(0).permutation(len(found))
        held = set(order[: int(HELD_OUT * len(found))].tolist())
        kept.write_text(json.dumps([found[number].text for number in sorted(held)]))
        unfinished = work / "train.unfinished"
        unfinished.mkdir(exist_ok=True)
        for number, page in enumerate(found):
            if number not in held:
                (unfinished / f"{page.name}.txt").write_text(page.text, encoding="utf-8")
        unfinished.rename(folder)
    return folder, json.loads(kept.read_text())


def first_training(given: argparse.Namespace, out: Path, folder: Path) -> bool:
    """Train a small BERT on inputs of 512 tokens; False where it was interrupted."""
    source = find_checkpoint(None).transformer
    tokenizer = AutoTokenizer.from_pretrained(source)
    if not (given.work / "corpus" / "corpus.json").exists():
        texts = (path.read_text(encoding="utf-8") for path in sorted(folder.iterdir()))
        Corpus.write(given.work / "corpus", texts, load_tokenizer(source, lowercase=False))
    corpus = Corpus.open(given.work / "corpus")
    model = fresh(source)
    settings = Settings(
        steps=given.steps, schedule=Schedule(peak=5e-4), precision="bfloat16", dropout="off",
        save_seconds=30, seed=1,
    )  # fmt: skip
    began = time.process_time()
    trained = train(
        model,
        MaskedLanguageModel(Masking.of(tokenizer)),
        Batches(corpus.blocks(SHORT), size=8, seed=1),
        folder=given.work / "run",
        settings=settings,
        on_step=tell,
    )
    spent(given.work, "first training", time.process_time() - began)
    if trained.ended == "interrupted":
        print(f"interrupted after {trained.steps} steps; the same command continues")
        return False
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    return True


def fresh(source: Path) -> BertForMaskedLM:
    """The embeddings and the first layers of all-MiniLM-L6-v2 under a new head."""
    torch.manual_seed(1)
    config = AutoConfig.from_pretrained(source)
    config.num_hidden_layers = LAYERS
    model = BertForMaskedLM(config)
    model.bert.load_state_dict(AutoModel.from_pretrained(source).state_dict(), strict=False)
    return model


def compare(given: argparse.Namespace, texts: list[str]) -> None:
    place = given.work / "small"
    corpus_folder = given.work / f"held-out-{given.inputs}"
    if not corpus_folder.exists():
        Corpus.write(corpus_folder, texts, load_tokenizer(place, lowercase=False))
    corpus = Corpus.open(corpus_folder)
    long = [int(n) for n in (corpus.lengths() >= LONG - 2).nonzero()[0]]
    inputs = Segments(corpus, long, LONG - 2, LONG - 2, seed=5)
    masking = Masking.of(AutoTokenizer.from_pretrained(place))
    rows = []
    for name, folder, length in (
        ("as trained, inputs of 512", "small", SHORT),
        ("extended, not trained further", "extended", LONG),
        ("extended and adapted", "adapted", LONG),
    ):
        model = AutoModelForMaskedLM.from_pretrained(given.work / folder).eval()
        inside, beyond = accuracy(model, inputs, given.inputs, masking, length)
        rows.append(
            {
                "model": name,
                "accuracy at positions below 512": f"{inside.mean():.1%}",
                "beyond": f"{beyond.mean():.1%}" if len(beyond) else "-",
                "difference, 95 % interval over inputs": interval(inside, beyond),
            }
        )
    seconds = json.loads((given.work / "seconds.json").read_text())
    report(
        "adaptation_masked",
        rows,
        {
            "processor seconds": ", ".join(f"{k} {v:.0f}" for k, v in seconds.items()),
            "first training": f"{given.steps} steps of 8 inputs of {SHORT} tokens",
            "adapted": f"{given.adapt_steps} steps of 2 stretches of 1,023 to 2,046 tokens",
            "held out": f"{given.inputs} inputs of {LONG} tokens from {len(long)} documents",
        },
    )


@torch.no_grad()
def accuracy(model, inputs, count, masking, length):
    """Per input, the share of hidden tokens guessed: (n,) below position 512 and (n,) beyond.

    A model of 512 positions reads the first 512 of the same inputs.
    """
    inside, beyond = [], []
    for number in range(count):
        batch = inputs(number)
        drawn = generator(7, number)
        hidden, chosen = masking(batch, drawn)
        cut = type(batch)(hidden.ids[:, :length], hidden.real[:, :length])
        where = chosen[:, :length]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            guessed = logits_of_checkpoint(model, cut, where).argmax(-1)
        right = (guessed == batch.ids[:, :length][where]).double()
        places = where.nonzero()[:, 1]
        inside.append(float(right[places < SHORT].mean()))
        if length > SHORT:
            beyond.append(float(right[places >= SHORT].mean()))
    return np.array(inside), np.array(beyond)


def interval(inside, beyond) -> str:
    if not len(beyond):
        return "-"
    apart = beyond - inside
    rng = np.random.default_rng(0)
    means = apart[rng.integers(len(apart), size=(4000, len(apart)))].mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return f"{100 * apart.mean():+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}]"


def spent(work: Path, what: str, seconds: float) -> None:
    """Add processor seconds; interrupted runs count together."""
    path = work / "seconds.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    known[what] = known.get(what, 0.0) + seconds
    path.write_text(json.dumps(known))


def tell(step) -> None:
    if step.number % 20 == 0 or step.held_out is not None:
        print(
            f"step {step.number}/{step.steps}, loss {step.loss:.3f}, held out {step.held_out}, "
            f"{step.seconds:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
