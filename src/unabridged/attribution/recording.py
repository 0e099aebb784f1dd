"""A recording on disk: a manifest and one file for every `every` steps, each with its checksum.

    recording.json           schema, model and optimiser, segments with their SHA-256
    00000000.safetensors     parameters before the first step
    00000050.safetensors     steps 0..49: ids, rates, gradient norms, random states; parameters and
                             optimiser buffers after step 49
    …

A file is written beside its place and moved into it, the manifest last, so that a process killed at
any moment leaves a recording that ends at its last whole segment.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from unabridged.attribution.errors import RecordingError

__all__ = ["Manifest", "Recording", "SegmentEntry", "fingerprint"]

SCHEMA = 1
MANIFEST = "recording.json"


@dataclass(frozen=True)
class SegmentEntry:
    """One file of the recording: where it is, what it must hash to, and which steps it holds."""

    file: str
    sha256: str
    first: int
    stop: int


@dataclass
class Manifest:
    """Everything about a recording that is not a tensor.

    Attributes:
        model: what `fingerprint` said of the model.
        optimizer: the family's kind and switches.
        groups: for every parameter group, the names of its trained parameters.
        loop: how the training loop weighs and clips.
        training: names of the modules that were in training mode.
        every: steps between checkpoints.
        segments: the files, in order; the first holds the start and no step.
        scheduler: state of the learning-rate schedule at the last checkpoint.
        complete: whether the recording was closed by its loop.
        schema: version of this format.
    """

    model: dict[str, str]
    optimizer: dict[str, Any]
    groups: list[list[str]]
    loop: dict[str, Any]
    training: list[str]
    every: int
    segments: list[SegmentEntry] = field(default_factory=list)
    scheduler: dict[str, Any] | None = None
    complete: bool = False
    schema: int = SCHEMA

    @property
    def steps(self) -> int:
        """How many optimiser steps are on disk."""
        return self.segments[-1].stop if self.segments else 0


def fingerprint(model: nn.Module, trained: list[str]) -> dict[str, str]:
    """Hashes of what must not change between recording and replay.

    Returns:
        `architecture` (the printed modules, with names, shapes and dtypes of all tensors) and
        `frozen` (the values of everything that training does not move).
    """
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    shapes = [f"{name} {tuple(t.shape)} {t.dtype}" for name, t in sorted(tensors.items())]
    architecture = hashlib.sha256("\n".join([repr(model), *shapes]).encode()).hexdigest()
    digest = hashlib.sha256()
    for name in sorted(set(tensors) - set(trained)):
        digest.update(name.encode())
        digest.update(tensors[name].detach().cpu().contiguous().flatten().numpy().tobytes())
    return {"architecture": architecture, "frozen": digest.hexdigest()}


class Recording:
    """The folder of a recording, opened for reading, or for adding segments at its end.

    Raises:
        RecordingError: nothing there, another schema, or a file whose checksum fails.
    """

    def __init__(self, folder: str | Path, manifest: Manifest) -> None:
        self.folder = Path(folder)
        self.manifest = manifest

    @classmethod
    def open(cls, folder: str | Path) -> Recording:
        """Read the manifest of an existing recording."""
        path = Path(folder) / MANIFEST
        if not path.exists():
            raise RecordingError(
                f"Recording: no {MANIFEST} in {folder}; wanted the folder that a Recorder wrote."
            )
        try:
            raw = json.loads(path.read_text())
        except json.JSONDecodeError as error:
            raise RecordingError(
                f"Recording: {path} is damaged ({error}); record again."
            ) from error
        if raw.get("schema") != SCHEMA:
            raise RecordingError(
                f"Recording: {path} has schema {raw.get('schema')} and this version reads "
                f"{SCHEMA}; record again, or use the version that wrote it."
            )
        raw["segments"] = [SegmentEntry(**entry) for entry in raw["segments"]]
        return cls(folder, Manifest(**raw))

    @staticmethod
    def exists(folder: str | Path) -> bool:
        """Whether a recording stands in the folder."""
        return (Path(folder) / MANIFEST).exists()

    def save(self) -> None:
        """Write the manifest, atomically."""
        beside = self.folder / (MANIFEST + ".part")
        beside.write_text(json.dumps(asdict(self.manifest), indent=1))
        beside.replace(self.folder / MANIFEST)

    def append(self, tensors: Mapping[str, Tensor], first: int, stop: int) -> None:
        """Add one segment: its file first, then the manifest that vouches for it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        name = f"{stop:08d}.safetensors"
        beside = self.folder / (name + ".part")
        save_file(
            {key: t.detach().cpu().contiguous().clone() for key, t in tensors.items()}, beside
        )
        digest = _sha256(beside)
        beside.replace(self.folder / name)
        self.manifest.segments.append(SegmentEntry(name, digest, first, stop))
        self.save()

    def load(self, index: int) -> dict[str, Tensor]:
        """The tensors of segment `index`, after its checksum was verified."""
        entry = self.manifest.segments[index]
        path = self.folder / entry.file
        if not path.exists():
            raise RecordingError(
                f"Recording: checkpoint {entry.file} is missing from {self.folder}; "
                "restore it, or record again."
            )
        if _sha256(path) != entry.sha256:
            raise RecordingError(
                f"Recording: checkpoint {entry.file} in {self.folder} is corrupt (its SHA-256 is "
                "not the one written with it); restore that file, or record again."
            )
        return dict(load_file(path))

    def verify(self) -> None:
        """Check every file, so that a corrupt one is named before hours are spent."""
        for index in range(len(self.manifest.segments)):
            self.load(index)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
