"""The default model adapted to whole documents, with and without gates of residual attention.

Same documents (of the standard library), steps, seed and batches; what differs is that layers may
learn to add the scores of the layers before them. Gates start at 0.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import machine
from unabridged.cli.standard_library import write_all
from unabridged.encoder.checkpoint import find_checkpoint
from unabridged.encoder.loading import load_weights
from unabridged.encoder.residual import gates_of
from unabridged.training.adaptation import adapt
from unabridged.training.recipe import Recipe

PLACE = Path("results/residual_adaptation")


def write_some(folder, most):
    """Pages from the median length on, up to so many, alone in a folder."""
    pages = sorted(write_all(folder / "all").glob("*.txt"), key=lambda page: page.stat().st_size)
    chosen = folder / "chosen"
    chosen.mkdir()
    for page in pages[len(pages) // 2 :][:most]:
        page.rename(chosen / page.name)
    return chosen


def run(recipe, model, place, most):
    """Adapt once and tell what came of it, or read what an earlier call left."""
    name = f"{'gates' if recipe.residual_attention else 'plain'}_{recipe.seed}_{recipe.steps}"
    kept = PLACE / f"{name}.json"
    if not kept.exists():
        PLACE.mkdir(parents=True, exist_ok=True)
        documents = write_some(place / "documents", most)
        made = adapt(model, documents, place / name, recipe=recipe)
        gates = gates_of(load_weights(find_checkpoint(made.folder)))
        found = {
            "gates": [gate.tolist() for gate in gates],
            "before": made.loss_before,
            "loss": made.loss,
            "seconds": made.seconds,
            "documents": made.documents,
            "held_out": made.held_out,
        }
        kept.write_text(json.dumps(found))
    return json.loads(kept.read_text())


def row(recipe, found):
    gates = [abs(each) for layer in found["gates"] for each in layer]
    return {
        "gates": "free" if recipe.residual_attention else "none",
        "seed": recipe.seed,
        "steps": recipe.steps,
        "documents, held out": f"{found['documents']}, {found['held_out']}",
        "held-out loss before": f"{found['before']:.4f}",
        "after": f"{found['loss']:.4f}",
        "mean |gate|": f"{sum(gates) / len(gates):.3f}" if gates else "",
        "largest |gate|": f"{max(gates):.3f}" if gates else "",
        "s": f"{found['seconds']:.0f}",
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="a folder or Hub id; the default model if absent")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--max-length", type=int, default=1024)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--documents", type=int, default=100, help="at most")
    parser.add_argument("--only", choices=["none", "free"], help="one half, for runs apart")
    given = parser.parse_args()
    plain = Recipe(minutes=None, steps=given.steps, max_length=given.max_length)
    halves = {"none": (False,), "free": (True,), None: (False, True)}[given.only]
    rows = []
    for seed in given.seeds:
        for residual in halves:
            recipe = replace(plain, seed=seed, residual_attention=residual)
            with tempfile.TemporaryDirectory() as place:
                rows.append(row(recipe, run(recipe, given.model, Path(place), given.documents)))
    machine.report("residual_adaptation", rows, {"longest document, tokens": given.max_length})


if __name__ == "__main__":
    main()
