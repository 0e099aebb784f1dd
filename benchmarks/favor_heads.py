"""What random features lose on the heads of a pretrained model, kind by kind.

Queries, keys and values are those of the model, extended without training, reading the
documentation of Python's standard library.
Error is |Õ - O| / |O| of a head over all its rows; the floor is "every token gets the mean value".
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

import torch

import machine
from residual_compressed import heads_of
from unabridged.attention.exact import Exact
from unabridged.attention.favor import Favor
from unabridged.cli.standard_library import write_all
from unabridged.encoder.checkpoint import find_checkpoint
from unabridged.encoder.extension import extend
from unabridged.encoder.loading import load_weights
from unabridged.encoder.tokens import load_tokenizer

SETTINGS = {
    "favor+": {"kind": "favor+", "invariances": "none"},
    "favor+, independent": {"kind": "favor+", "invariances": "none", "directions": "independent"},
    "favor+, paired": {"kind": "favor+", "invariances": "none", "directions": "paired"},
    "favor+, keys centred": {"kind": "favor+", "invariances": "keys"},
    "favor+, centred": {"kind": "favor+", "invariances": "centred"},
    "favor+, centred, monge": {"kind": "favor+", "invariances": "monge"},
    "favor++, centred": {"kind": "favor++", "invariances": "centred"},
    "favor++, centred, monge": {"kind": "favor++", "invariances": "monge"},
    "favor#, centred": {"kind": "favor#", "invariances": "centred"},
    "favor#, centred, monge": {"kind": "favor#", "invariances": "monge"},
}


def error(got, exact):
    """(H,) relative to the norm of the exact output."""
    return (got - exact).flatten(2).norm(dim=-1)[0] / exact.flatten(2).norm(dim=-1)[0]


def losses(attention, heads, exact):
    try:
        return error(attention(*heads), exact)
    except ArithmeticError:
        return None


class Table:
    """Errors of every head of every text, by method."""

    def __init__(self, counts):
        self.counts = counts
        self.errors, self.spreads = {}, {}

    def add(self, name, count, errors):
        """Keep the errors of some heads; None where they were refused."""
        if errors is None:
            errors = [float("nan")]
        self.errors.setdefault((name, count), []).extend(float(x) for x in errors)

    def take(self, heads):
        """Run everything on the heads of one layer."""
        query, key, value = heads
        exact = Exact()(*heads)
        self.add("mean value", 0, error(value.mean(2, keepdim=True).expand_as(exact), exact))
        for name, settings in SETTINGS.items():
            for count in self.counts:
                attention = Favor(count, **settings)
                self.add(name, count, losses(attention, heads, exact))
            spread = attention.predicted_variance(query, key).log1p()
            self.spreads.setdefault(name, []).extend(spread.flatten().tolist())
        for count in self.counts:
            attention = Favor(count, "trigonometric")
            self.add("trigonometric, centred, monge", count, losses(attention, heads, exact))
            self.add("performer-pytorch", count, error(self.peer(count)(*heads), exact))

    def peer(self, count):
        """performer-pytorch with directions of its own, always the same ones."""
        from performer_pytorch import FastAttention

        generator_state = torch.random.get_rng_state()
        torch.manual_seed(0)
        attention = FastAttention(dim_heads=32, nb_features=count)
        torch.random.set_rng_state(generator_state)
        return attention

    def rows(self):
        """One line a method and number of features."""
        for (name, count), errors in self.errors.items():
            kept = [x for x in errors if x == x]
            refused = len(errors) - len(kept)
            spread = self.spreads.get(name)
            yield {
                "method": name,
                "features": f"{count:,}" if count else "-",
                "median head": f"{statistics.median(kept):.3f}" if kept else "refused",
                "best head": f"{min(kept):.3f}" if kept else "refused",
                "worst head": f"{max(kept):.3f}" if kept else "refused",
                "ln(1 + variance of a feature)": f"{statistics.median(spread):.1f}"
                if spread
                else "-",
                "layers refused": refused,
            }


def texts(tokenizer, length, count, cache):
    """Modules' pages of at least `length` tokens, cut there: every so many of all."""
    long = []
    for path in sorted(write_all(cache.resolve()).glob("*.txt")):
        page = path.read_text(encoding="utf-8")[: 12 * length]
        if len(page) >= 6 * length:
            ids = torch.as_tensor(tokenizer(page).ids, dtype=torch.long)
            if len(ids) >= length:
                long.append(ids[None, :length])
    step = max(1, len(long) // count)
    return long[::step][:count]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="folder or Hub id; the packaged default if left out")
    parser.add_argument("--length", type=int, default=2048)
    parser.add_argument("--texts", type=int, default=4)
    parser.add_argument("--features", type=int, nargs="+", default=[256, 1024])
    parser.add_argument("--cache", type=Path, default=Path("results/documentation"))
    arguments = parser.parse_args()
    torch.set_grad_enabled(False)
    with tempfile.TemporaryDirectory() as place:
        extend(arguments.model, Path(place) / "longer", max_length=max(513, arguments.length))
        checkpoint = find_checkpoint(str(Path(place) / "longer"))
        model, tokenizer = (
            load_weights(checkpoint).eval(),
            load_tokenizer(checkpoint.transformer, lowercase=False),
        )
    table = Table(arguments.features)
    chosen = texts(tokenizer, arguments.length, arguments.texts, arguments.cache)
    for ids in chosen:
        for heads in heads_of(model, ids):
            table.take(heads)
    about = {"tokens": arguments.length, "texts": len(chosen), "heads": "all of all layers"}
    machine.report(f"favor_heads_{arguments.length}", list(table.rows()), about)


if __name__ == "__main__":
    main()
