"""Facts about this installation, this machine and one collection, for `unabridged doctor`."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from unabridged._errors import UnabridgedError
from unabridged.cli import opening

__all__ = ["Finding", "check_all"]

PACKAGES = (
    "unabridged", "torch", "transformers", "sentence-transformers", "lancedb", "numpy", "typer",
    "rich", "pypdfium2", "mammoth", "charset-normalizer",
)  # fmt: skip

MANY_FILES = 200
"""Versions and fragments of a collection, together, that a sync should have merged long ago."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact.

    Attributes:
        about: "versions", "model", "machine" or "collection".
        name: of the fact.
        value: for people.
        wrong: what to do about it; empty where all is well.
    """

    about: str
    name: str
    value: str
    wrong: str = ""


def check_all(place: str | None, model: str | None) -> Iterator[Finding]:
    """Everything that a report of a fault should hold."""
    yield from _versions()
    yield from _machine()
    yield from _model(model)
    yield from _collection(place)


def _versions() -> Iterator[Finding]:
    yield Finding("versions", "python", f"{platform.python_version()}, {platform.platform()}")
    for name in PACKAGES:
        try:
            yield Finding("versions", name, version(name))
        except PackageNotFoundError:
            yield Finding("versions", name, "missing", f"pip install {name}")


def _machine() -> Iterator[Finding]:
    import torch

    from unabridged.encoder.precision import probe_precision

    probe = probe_precision()
    dtype = str(probe.dtype).removeprefix("torch.")
    rates = f"bfloat16 {probe.bfloat16:,.0f}, float32 {probe.float32:,.0f} GFLOP/s"
    yield Finding("machine", "processor", probe.processor)
    yield Finding("machine", "threads", f"{torch.get_num_threads()} of {os.cpu_count()}")
    yield Finding("machine", "precision", f"{dtype}, because a matrix product runs at {rates}")


def _model(model: str | None) -> Iterator[Finding]:
    try:
        encoder = opening.load_encoder(model)
    except UnabridgedError as error:
        yield Finding("model", "found", "no", str(error))
        return
    checkpoint = encoder.checkpoint
    yield Finding("model", "found", checkpoint.name)
    yield Finding("model", "folder", str(checkpoint.folder))
    yield Finding("model", "fingerprint", checkpoint.digest)
    yield Finding("model", "reads alone", f"{encoder.max_length:,} tokens; longer in passages")
    reader = {key: value for key, value in encoder.fingerprint.items() if key.startswith("reader")}
    yield Finding("model", "reader", ", ".join(f"{key} {value}" for key, value in reader.items()))


def _collection(place: str | None) -> Iterator[Finding]:
    try:
        info = opening.collection(place).info()
    except UnabridgedError as error:
        # Without --in there need not be any.
        yield Finding("collection", "found", "none", "" if place is None else str(error))
        return
    yield Finding("collection", "found", str(info.path))
    yield Finding("collection", "schema", str(info.schema_version))
    yield Finding("collection", "documents", f"{info.documents:,}")
    yield Finding("collection", "passages", f"{info.passages:,}")
    yield Finding("collection", "tokens", f"{info.tokens:,}")
    if made := info.whitening:
        yield Finding("collection", "vectors", f"{made.decision}: {made.reason}")
    many = info.versions + info.fragments > MANY_FILES
    advice = "index again, or Collection.compact()" if many else ""
    yield Finding("collection", "versions", f"{info.versions:,}", advice)
    yield Finding("collection", "fragments", f"{info.fragments:,}")
