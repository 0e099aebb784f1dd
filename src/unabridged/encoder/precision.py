"""float32 or bfloat16, decided by what this processor does well and never by guess."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Literal

import torch

__all__ = ["Probe", "probe_precision"]

_WORTHWHILE = 1.3
"""bfloat16 must win by this factor: its rounding is not worth less."""

_SHAPE = (2048, 384, 1536)  # rows of a tile, width and inner width of the default model
_SECONDS = 0.4  # spent on each of the two


@dataclass(frozen=True)
class Probe:
    """Measured rates of a matrix product, in GFLOP/s, and what follows from them."""

    processor: str
    torch_version: str
    threads: int
    float32: float
    bfloat16: float

    @property
    def machine(self) -> tuple[str, str, int]:
        """What the rates depend on."""
        return self.processor, self.torch_version, self.threads

    @property
    def name(self) -> Literal["float32", "bfloat16"]:
        """Of the dtype: bfloat16 where it is at least 1.3 times as fast as float32."""
        return "bfloat16" if self.bfloat16 >= _WORTHWHILE * self.float32 else "float32"

    @property
    def dtype(self) -> torch.dtype:
        """The same as PyTorch says it."""
        return torch.bfloat16 if self.name == "bfloat16" else torch.float32


def probe_precision() -> Probe:
    """The rates on this machine; measured in a second, then remembered in the user's cache."""
    machine = (_processor(), torch.__version__, torch.get_num_threads())
    cache = _cache_file()
    remembered = _recall(cache)
    if (
        remembered
        and (remembered.processor, remembered.torch_version, remembered.threads) == machine
    ):
        return remembered
    probe = Probe(*machine, _rate(torch.float32), _rate(torch.bfloat16))
    _remember(cache, probe)
    return probe


@torch.inference_mode()
def _rate(dtype: torch.dtype) -> float:
    rows, inner, columns = _SHAPE
    left = torch.ones(rows, inner, dtype=dtype)
    right = torch.ones(columns, inner, dtype=dtype)
    seconds: list[float] = []
    end = time.perf_counter() + _SECONDS
    while len(seconds) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        torch.nn.functional.linear(left, right)
        seconds.append(time.perf_counter() - start)
    return 2e-9 * rows * inner * columns / median(seconds)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    # The name alone is not enough: a hypervisor may hide AMX or AVX-512 of the same model.
    facts = {key.strip(): value.strip() for key, _, value in (s.partition(":") for s in lines)}
    digest = hashlib.sha256(facts.get("flags", "").encode()).hexdigest()[:8]
    return f"{facts.get('model name', platform.machine())} ({digest})"


def _cache_file() -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "unabridged" / "precision.json"


def _recall(path: Path) -> Probe | None:
    try:
        return Probe(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _remember(path: Path, probe: Probe) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(probe)), encoding="utf-8")
    except OSError:
        return  # a read-only home costs one second at the next start, nothing else
