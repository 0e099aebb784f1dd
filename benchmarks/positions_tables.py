"""Position tables: the closed form of sinusoidal decay against the sum, and a learned table.

Prints where the closed form holds and where the sum of d/2 cosines is noise, what the table of the
default model is like, and what each lengthening scheme adds to its rows. No retrieval is measured.
"""

from __future__ import annotations

import argparse

import torch

import machine
from unabridged.encoder.checkpoint import find_checkpoint
from unabridged.encoder.loading import load_weights
from unabridged.positions import (
    SCHEMES,
    decay_profile,
    diagnose,
    exact_profile,
    extrapolation_error,
    smooth_range,
)

BANDS = [(0, 10), (10, 42), (42, 60), (60, 130), (130, 500), (500, 2000), (2000, 8192)]


def profiles(width):
    rows = []
    for low, high in BANDS:
        x = torch.linspace(low, high, 20 * (high - low) + 1, dtype=torch.float64)
        exact = exact_profile(x, width)
        plain = (decay_profile(x) - exact).abs()
        log = torch.log(torch.tensor(10000.0))
        slow = x / 10000
        one_term = decay_profile(x) + (x.cos() - slow.cos()) / width
        two_terms = decay_profile(x, width)
        rows.append(
            {
                "d": width,
                "distance": f"{low} to {high}",
                "in units of d/(2 ln b)": f"{high / smooth_range(width):.1f}",
                "worst error of g": f"{plain.max():.1e}",
                "with one term": f"{(one_term - exact).abs().max():.1e}",
                "with two": f"{(two_terms - exact).abs().max():.1e}",
                "rms error of g": f"{plain.square().mean().sqrt():.1e}",
                "d^-1/2": f"{width**-0.5:.1e}",
                "g at the end": f"{decay_profile(x[-1:]).item():.3f}",
                "1-(ln x+γ)/ln b": f"{1 - (x[-1].log() + 0.5772156649) / log:.3f}",
            }
        )
    return rows


def learned_table(model):
    network = load_weights(find_checkpoint(model))
    return network.embeddings.position_embeddings.weight.detach()


def findings(table):
    found = diagnose(table)
    inner = table[1:-2].double()
    rows = {
        "rows": len(table),
        "outlier rows": found.outlier_rows,
        "norm of row 0": f"{found.norms[0]:.3f}",
        "median norm": f"{found.norms.median():.3f}",
        "norms of the last two": " ".join(f"{norm:.3f}" for norm in found.norms[-2:]),
        "Toeplitz share of the Gram matrix of the body": f"{found.toeplitz_share:.3f}",
        "components for 90 % and 99 %": f"{found.components(0.9)}, {found.components(0.99)}",
        "median distance from row 0": f"{found.offset_from_first:.3f}",
        "median distance from row 1": f"{found.offset_from_second:.3f}",
    }
    for held in (8, 16, 32, 64, 128):
        error = extrapolation_error(inner, held)
        rows[f"error of foretelling the last {held} rows of the base"] = f"{error:.2f}"
    return [{"of the table": name, "found": value} for name, value in rows.items()]


def offsets(table):
    """What a later row has beside the row that its place in the block would have."""
    rows = []
    for form, first, base in (("literal", 0, len(table)), ("cls-safe", 1, len(table) - 3)):
        longer = SCHEMES["hierarchical"](table, 16 * base, form=form)
        moved = [
            (longer[first + base * block + 7] - table[first + 7]).norm() for block in range(1, 9)
        ]
        row = {"form": form, "base": base}
        row |= {f"block {i}": f"{moved[i - 2]:.2f}" for i in range(2, 10)}
        rows.append(row)
    return rows


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="a BERT-type folder or Hub id; the default model if absent")
    parser.add_argument("--width", type=int, default=768, help="d of the sinusoidal table")
    given = parser.parse_args()
    machine.report("positions_profile", profiles(given.width))
    table = learned_table(given.model)
    print()
    machine.report("positions_table", findings(table))
    print()
    machine.report("positions_offsets", offsets(table))


if __name__ == "__main__":
    main()
