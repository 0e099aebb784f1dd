"""PostLN, PreLN and RealFormer trained alike on real text: is residual attention worth it?

A masked language model on documentation (see residual_corpus.py). Every architecture gets its own
sweep of learning rates, then the best rate of each is trained with several seeds: same first
weights, same batches, same hidden tokens for all architectures of a seed. Every run leaves a JSON
file, so that the whole can be interrupted, continued, and shared by several processes:

    residual_training.py next          # runs that are still missing
    residual_training.py report        # the table, and the plot where --plot names a file
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from pathlib import Path

import torch
from transformers import AutoTokenizer

import machine
import residual_corpus
from residual_plot import draw
from unabridged.attention.residual import Residual
from unabridged.training.compact import CompactEncoder, Shape, logits_at
from unabridged.training.corpus import Batch, Batches, Corpus
from unabridged.training.loop import train
from unabridged.training.masking import MaskedLanguageModel, Masking
from unabridged.training.schedule import Schedule
from unabridged.training.settings import Settings

PLACE = Path("results/residual_training")
ARCHITECTURES = ("post-norm", "pre-norm", "realformer")
RATES = (5e-4, 1e-3, 2e-3)
SEEDS = range(1, 6)
VOCABULARY, LENGTH, WIDTH, LAYERS, HEADS, BATCH = 4096, 128, 128, 4, 2, 8
HELD_OUT = 96  # blocks
PATIENCE = 120  # seconds


def shares_of_work():
    """How many steps RealFormer has for PostLN's FLOPs: scores carried whole, or as factors."""
    body = LAYERS * 24 * WIDTH**2
    pairs = LAYERS * 4 * LENGTH * WIDTH  # scores and mixing, a token
    head = 0.15 * (2 * WIDTH * VOCABULARY + 2 * WIDTH**2)
    plain = body + pairs + head
    whole = plain + (LAYERS - 1) * HEADS * LENGTH  # one addition a score
    factors = plain + 2 * LENGTH * WIDTH * LAYERS * (LAYERS - 1) / 2
    return plain / whole, plain / factors


def name_of(job):
    return "{architecture}_{rate:g}_{seed}_{steps}".format(**job)


def jobs(steps, sweep_steps):
    """The sweep, the seeds at each architecture's best rate, then RealFormer with fewer steps."""
    sweep = [
        {"architecture": a, "rate": r, "seed": 0, "steps": sweep_steps}
        for r in RATES
        for a in ARCHITECTURES
    ]
    yield from sweep
    for _ in range(PATIENCE):  # others may be at the last of them
        if all(result_of(job).exists() for job in sweep):
            break
        time.sleep(1)
    done = [json.loads(path.read_text()) for path in map(result_of, sweep) if path.exists()]
    if len(done) < len(sweep):
        return
    best = {a: best_rate(done, a) for a in ARCHITECTURES}
    for seed in SEEDS:
        for architecture in ARCHITECTURES:
            yield {
                "architecture": architecture,
                "rate": best[architecture],
                "seed": seed,
                "steps": steps,
            }
    fewer = int(steps * shares_of_work()[1])
    for seed in SEEDS:
        rate = best["realformer"]
        yield {"architecture": "realformer", "rate": rate, "seed": seed, "steps": fewer}


def best_rate(done, architecture):
    own = [run for run in done if run["architecture"] == architecture]
    return min(own, key=lambda run: run["loss"])["rate"]


def result_of(job):
    return PLACE / "runs" / f"{name_of(job)}.json"


def blocks_of(corpus):
    """Training and held-out blocks, of different documents."""
    held = [i for i in range(len(corpus)) if i % 40 == 7]
    rest = [i for i in range(len(corpus)) if i % 40 != 7]
    unseen = corpus.blocks(LENGTH, documents=held)
    chosen = torch.randperm(len(unseen), generator=torch.Generator().manual_seed(0))[:HELD_OUT]
    return corpus.blocks(LENGTH, documents=rest), [unseen[int(i)] for i in chosen]


def run(job):
    """Train one model and write what came of it."""
    corpus = Corpus.open(PLACE / "tokens")
    training, unseen = blocks_of(corpus)
    tokenizer = AutoTokenizer.from_pretrained(PLACE / "tokenizer")
    shape = Shape(
        VOCABULARY,
        width=WIDTH,
        layers=LAYERS,
        heads=HEADS,
        length=LENGTH,
        architecture=job["architecture"],
    )
    # The same kernel for all three: what differs is the architecture.
    model = CompactEncoder(shape, seed=job["seed"], attention=Residual("materialised"))
    settings = Settings(
        steps=job["steps"],
        schedule=Schedule(peak=job["rate"], warmup=0.1),
        precision="bfloat16",
        look_every=max(1, job["steps"] // 10),
        save_seconds=1e9,
        seed=job["seed"],
    )
    held_out = [Batch.of(unseen[i : i + 32]) for i in range(0, len(unseen), 32)]
    began = time.process_time()
    looks = []
    trained = train(
        model,
        MaskedLanguageModel(Masking.of(tokenizer), logits_at),
        Batches(training, size=BATCH, seed=job["seed"]),
        folder=PLACE / "state" / name_of(job),
        settings=settings,
        held_out=held_out,
        on_step=lambda s: looks.append((s.number, s.held_out)) if s.held_out else None,
    )
    found = {
        **job,
        "loss": looks[-1][1],
        "best": trained.held_out,
        "looks": looks,
        "entropy": entropies(model, unseen),
        "seconds": time.process_time() - began,
        "tokens": job["steps"] * BATCH * LENGTH,
        "corpus": len(corpus.ids),
    }
    result_of(job).parent.mkdir(parents=True, exist_ok=True)
    result_of(job).write_text(json.dumps(found))
    print(
        json.dumps({key: found[key] for key in ("architecture", "rate", "seed", "loss", "seconds")})
    )


@torch.no_grad()
def entropies(model, unseen):
    """Mean entropy in nats of the probabilities of every layer on held-out blocks."""
    found, model = [], model.eval()
    states = model.embedding_norm(model.words(torch.stack(unseen[:32])) + model.places.weight)
    earlier = None
    for block in model.blocks:
        inner = block.attention_norm(states) if block.norm == "before" else states
        _, scores = model.attention.read(*block.heads_of(inner), earlier=earlier)
        shares = scores.scores.softmax(-1)
        found.append(float(torch.special.entr(shares).sum(-1).mean()))
        states, after = block(states, None, model.attention, earlier)
        earlier = after if model.shape.architecture == "realformer" else None
    return found


def next_runs(steps, sweep_steps, seconds):
    """Runs that nobody has begun, one after another; none begins after so many seconds."""
    began = time.monotonic()
    for job in jobs(steps, sweep_steps):
        claim = result_of(job).with_suffix(".claim")
        claim.parent.mkdir(parents=True, exist_ok=True)
        claimed = claim.exists() and time.time() - claim.stat().st_mtime < 600
        if result_of(job).exists() or claimed:
            continue
        if time.monotonic() - began > seconds:
            return
        claim.write_text("")
        run(job)
    print("nothing else is missing")


def sign_test(differences):
    """Two-sided probability of so uneven signs."""
    count, wins = len(differences), sum(d < 0 for d in differences)
    tail = sum(math.comb(count, k) for k in range(min(wins, count - wins) + 1)) / 2**count
    return min(1.0, 2 * tail)


def steps_to_reach(looks, loss):
    """Steps, interpolated between looks, until the held-out loss is that low; None if never."""
    before = None
    for step, seen in looks:
        if seen <= loss:
            if before is None or before[1] == seen:
                return step
            share = (before[1] - loss) / (before[1] - seen)
            return before[0] + share * (step - before[0])
        before = (step, seen)
    return None


def report(steps, sweep_steps, plot):
    runs = [json.loads(path.read_text()) for path in sorted((PLACE / "runs").glob("*.json"))]
    sweep = [each for each in runs if each["steps"] == sweep_steps and not each["seed"]]
    about = {
        "corpus": f"{runs[0]['corpus']:,} tokens, WordPiece of {VOCABULARY}",
        "model": f"{LAYERS} layers, {WIDTH} wide, {HEADS} heads; {BATCH} x {LENGTH} tokens a step",
        "runs": f"{steps} steps ({sweep_steps} in the sweep), {steps * BATCH * LENGTH:,} tokens, "
        "bfloat16, warm-up of a tenth, then down to zero",
    }
    losses = {(x["architecture"], x["rate"]): f"{x['loss']:.3f}" for x in sweep}
    rates = sorted({x["rate"] for x in sweep})
    rows = [
        {"architecture": a} | {f"rate {r:g}": losses[a, r] for r in rates} for a in ARCHITECTURES
    ]
    machine.report("residual_training_sweep", rows, about)
    finals = finals_of(runs, steps)
    print()
    machine.report("residual_training", [summary(*each, finals) for each in finals.items()], about)
    if plot:
        draw({name: [x["looks"] for x in own] for name, own in finals.items()}, Path(plot))


def finals_of(runs, steps):
    """Runs of the seeds, by architecture and then by seed."""
    seeds = [each for each in runs if each["seed"]]
    full = [each for each in seeds if each["steps"] == steps]
    own = {a: [x for x in full if x["architecture"] == a] for a in ARCHITECTURES}
    fewer = int(steps * shares_of_work()[1])
    own["realformer, equal FLOPs as factors"] = [x for x in seeds if x["steps"] == fewer]
    return {name: sorted(each, key=lambda x: x["seed"]) for name, each in own.items() if each}


def summary(name, own, finals):
    rivals = {x["seed"]: x for x in finals["post-norm"]}
    pairs = [(x, rivals[x["seed"]]) for x in own if x["seed"] in rivals]
    differences = [x["loss"] - y["loss"] for x, y in pairs]
    reached = [steps_to_reach(x["looks"], y["loss"]) for x, y in pairs]
    ratios = [r / y["steps"] for r, (_, y) in zip(reached, pairs, strict=True) if r]
    mine = name == "post-norm"
    return {
        "architecture": name,
        "steps": own[0]["steps"],
        "rate": f"{own[0]['rate']:g}",
        "losses by seed": " ".join(f"{x['loss']:.3f}" for x in own),
        "mean": f"{statistics.mean(x['loss'] for x in own):.3f}",
        "minus post-norm": "" if mine else f"{statistics.mean(differences):+.3f}",
        "below it": "" if mine else f"{sum(d < 0 for d in differences)} of {len(differences)}",
        "sign test p": "" if mine else f"{sign_test(differences):.3f}",
        "steps to its loss": ""
        if mine
        else (f"{statistics.mean(ratios):.2f}" if ratios else "-") + f" ({len(ratios)} reach it)",
        "entropy by layer": " ".join(
            f"{statistics.mean(layer):.2f}"
            for layer in zip(*(x["entropy"] for x in own), strict=True)
        ),
        "CPU s": f"{statistics.median(x['seconds'] for x in own):.0f}",
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["prepare", "next", "report"])
    parser.add_argument("--steps", type=int, default=1000, help="of the runs that are compared")
    parser.add_argument("--sweep-steps", type=int, default=400, help="of the runs of the sweep")
    parser.add_argument("--seconds", type=float, default=1e9, help="`next` begins no run later")
    parser.add_argument("--characters", type=int, default=24_000_000, help="of the corpus, at most")
    parser.add_argument("--plot", help="where `report` draws, an .svg file")
    given = parser.parse_args()
    if given.what != "report":
        residual_corpus.prepare(PLACE, vocabulary=VOCABULARY, characters=given.characters)
    if given.what == "next":
        next_runs(given.steps, given.sweep_steps, given.seconds)
    if given.what == "report":
        report(given.steps, given.sweep_steps, given.plot)


if __name__ == "__main__":
    main()
