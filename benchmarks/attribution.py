"""The full ledger against captum's TracInCP and TracInCPFast, TRAK and dattri, on one network.

A 64-32-10 network on scikit-learn's digits, 1,000 training and 200 test images, ten epochs of SGD.
Every method explains the loss of every test image by every training image. Methods run in turn,
several rounds; medians. What a method leaves unexplained is the largest gap between the sum of its
scores and what training did to a test loss, over the mean such change. Last, how far the model is
from a kernel machine with constant weights: the dispersion of its dual weights over test images.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import statistics
import tempfile
import time
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn

from unabridged.attribution import (
    Recorder,
    Replay,
    TensorData,
    cross_entropy_of,
    kernel_machine,
    logit,
    path_kernel,
)

TRAIN, TEST, EPOCHS = 1000, 200, 10
KERNEL_ROWS = 40


def digits():
    data = load_digits()
    return torch.tensor(data.data / 16, dtype=torch.float32), torch.tensor(data.target)


def train(folder, inputs, labels, arguments):
    """Train under a recorder, and keep one plain checkpoint an epoch for the peers."""
    torch.manual_seed(arguments.seed)
    activation = {"tanh": nn.Tanh, "gelu": nn.GELU, "relu": nn.ReLU}[arguments.activation]
    model = nn.Sequential(nn.Linear(64, 32), activation(), nn.Linear(32, 10))
    optimizer = (
        torch.optim.SGD(model.parameters(), lr=arguments.rate)
        if arguments.optimizer == "sgd"
        else torch.optim.AdamW(model.parameters(), lr=arguments.rate)
    )
    data = TensorData(inputs[:TRAIN], labels[:TRAIN])
    with Recorder(model, optimizer, folder / "run", data=data, every=20) as recorder:
        for epoch in range(EPOCHS):
            torch.save(model.state_dict(), folder / f"epoch{epoch}.pt")
            for ids in torch.randperm(TRAIN).split(arguments.batch):
                rows, wanted = recorder.fetch(ids)
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(rows), wanted).backward()
                optimizer.step()
                recorder.step(ids, rows, wanted)
    return model, data


def captum_scores(kind, model, folder, inputs, labels, arguments):
    from captum.influence import TracInCP, TracInCPFast

    dataset = torch.utils.data.TensorDataset(inputs[:TRAIN], labels[:TRAIN])
    # A weight of rate / batch size makes one epoch's score a first-order estimate of the change.
    weight = arguments.rate / arguments.batch

    def load(model, path):
        model.load_state_dict(torch.load(path))
        return weight

    options = {
        "checkpoints": [str(folder / f"epoch{epoch}.pt") for epoch in range(EPOCHS)],
        "checkpoints_load_func": load,
        "loss_fn": nn.CrossEntropyLoss(reduction="sum"),
        "batch_size": TRAIN,
    }
    if kind == "TracInCP":
        tracin = TracInCP(model, dataset, sample_wise_grads_per_batch=True, **options)
    else:
        tracin = TracInCPFast(model, model[2], dataset, **options)
    return -tracin.influence((inputs[TRAIN : TRAIN + TEST], labels[TRAIN : TRAIN + TEST])).double()


def trak_scores(model, folder, inputs, labels):
    from trak import TRAKer
    from trak.projectors import BasicProjector, ProjectionType

    size = sum(p.numel() for p in model.parameters())

    def projector():
        kind = ProjectionType.rademacher
        return BasicProjector(size, 512, seed=0, proj_type=kind, device="cpu", block_size=512)

    traker = TRAKer(
        model,
        "image_classification",
        TRAIN,
        save_dir=str(folder / f"trak{time.monotonic_ns()}"),
        device="cpu",
        projector=projector(),
        proj_dim=512,
        use_half_precision=False,
        logging_level=40,
    )
    traker.load_checkpoint(model.state_dict(), model_id=0)
    traker.featurize(batch=[inputs[:TRAIN], labels[:TRAIN]], num_samples=TRAIN)
    traker.finalize_features()
    traker.projector = projector()  # finalize_features has freed the first one's matrix
    traker.start_scoring_checkpoint("x", model.state_dict(), model_id=0, num_targets=TEST)
    tests = slice(TRAIN, TRAIN + TEST)
    traker.score(batch=[inputs[tests], labels[tests]], num_samples=TEST)
    return torch.tensor(traker.finalize_scores("x")).T


def dattri_scores(model, folder, inputs, labels, arguments):
    from dattri.algorithm.tracin import TracInAttributor
    from dattri.task import AttributionTask
    from torch.func import functional_call
    from torch.utils.data import DataLoader, TensorDataset

    def loss(parameters, row):
        image, label = row
        outputs = functional_call(model, parameters, image[None])
        return nn.functional.cross_entropy(outputs, label[None])

    states = [torch.load(folder / f"epoch{epoch}.pt") for epoch in range(EPOCHS)]
    task = AttributionTask(loss_func=loss, model=model, checkpoints=states)
    weights = torch.full((EPOCHS,), arguments.rate / arguments.batch)
    attributor = TracInAttributor(task=task, weight_list=weights, normalized_grad=False)
    loaders = [
        DataLoader(TensorDataset(inputs[rows], labels[rows]), batch_size=TRAIN)
        for rows in (slice(0, TRAIN), slice(TRAIN, TRAIN + TEST))
    ]
    return -attributor.attribute(*loaders).T.double()


def ours(model, folder, data, inputs, labels, tolerance):
    replay = Replay(model, folder / "run", loss=cross_entropy_of, data=data)
    tests = slice(TRAIN, TRAIN + TEST)
    return path_kernel(
        replay, inputs[tests], labels[tests], target=cross_entropy_of, tolerance=tolerance
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--optimizer", choices=["sgd", "adamw"], default="sgd")
    parser.add_argument("--activation", choices=["tanh", "gelu", "relu"], default="tanh")
    parser.add_argument("--rate", type=float, default=0.1)
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tolerance", type=float, default=1e-6)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    inputs, labels = digits()
    folder = Path(tempfile.mkdtemp())
    model, data = train(folder, inputs, labels, arguments)
    start = {key: value.clone() for key, value in torch.load(folder / "epoch0.pt").items()}
    end = {key: value.clone() for key, value in model.state_dict().items()}
    methods = {
        "ledger": lambda: ours(model, folder, data, inputs, labels, arguments.tolerance),
        "TracInCP": lambda: captum_scores("TracInCP", model, folder, inputs, labels, arguments),
        "TracInCPFast": lambda: captum_scores(
            "TracInCPFast", model, folder, inputs, labels, arguments
        ),
        "TRAK (BasicProjector)": lambda: trak_scores(model, folder, inputs, labels),
        "dattri TracIn": lambda: dattri_scores(model, folder, inputs, labels, arguments),
    }
    times, results = measure(methods, model, end, arguments.rounds)
    changes = change_of_loss(model, start, end, inputs, labels)
    report(times, results, changes, dispersion_of(model, folder, data, inputs, labels), arguments)


def dispersion_of(model, folder, data, inputs, labels):
    """Share of the squared parts of the predicted logits that constant dual weights leave."""
    replay = Replay(model, folder / "run", loss=cross_entropy_of, data=data)
    tests = slice(TRAIN, TRAIN + KERNEL_ROWS)
    machine = kernel_machine(replay, inputs[tests], labels[tests], target=logit, tolerance=1e-4)
    return machine.dispersion


def measure(methods, model, end, rounds):
    times, results = {}, {}
    for turn in range(rounds + 1):
        for name, method in list(methods.items()):
            model.load_state_dict(end)
            began = time.perf_counter()
            try:
                results[name] = method()
            except ImportError as error:
                print(f"{name}: not installed ({error}), skipped")
                del methods[name]
                continue
            if turn:
                times.setdefault(name, []).append(time.perf_counter() - began)
    return times, results


def change_of_loss(model, start, end, inputs, labels):
    tests = slice(TRAIN, TRAIN + TEST)
    values = []
    for state in (start, end):
        model.load_state_dict(state)
        with torch.no_grad():
            values.append(cross_entropy_of(model(inputs[tests]), labels[tests]).double())
    return values[1] - values[0]


def report(times, results, changes, dispersion, arguments):
    versions = {"torch": torch.__version__, "python": platform.python_version()}
    print(f"{datetime.date.today()}  {platform.machine()}  {versions}  {vars(arguments)}")
    base = statistics.median(times["TracInCP"])
    table = {}
    for name, taken in times.items():
        seconds = statistics.median(taken)
        found = results[name]
        if name == "ledger":
            gap = float((found.residual + found.rounding).abs().max() / found.change.abs().mean())
        elif name.startswith("TRAK"):
            gap = None  # its scores are not in units of the loss
        else:
            gap = float((found.sum(1) - changes).abs().max() / changes.abs().mean())
        table[name] = {"seconds": seconds, "ratio": seconds / base, "unexplained": gap}
        shown = "-" if gap is None else f"{gap:.2e}"
        print(f"{name:24s} {seconds:8.3f} s  {seconds / base:7.2f} x TracInCP   left {shown}")
    table["dispersion"] = dispersion
    print(f"kernel machine, {KERNEL_ROWS} test images: {dispersion:.4f} of the squared parts is "
          "left by weights that do not depend on the image")  # fmt: skip
    ledger = results["ledger"]
    print(f"ledger: residual {ledger.unexplained:.2e}, gradients {ledger.gradients_spent}")
    folder = Path("results")
    folder.mkdir(exist_ok=True)
    record = {"versions": versions, "arguments": vars(arguments), "methods": table}
    (folder / f"attribution_{arguments.optimizer}_{arguments.activation}.json").write_text(
        json.dumps(record, indent=1)
    )


if __name__ == "__main__":
    main()
