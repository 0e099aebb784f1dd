"""What every benchmark prints around its figures: the machine, the versions, the date."""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

RESULTS = Path("results")
DATA_HINT = (
    "QMSum (Zhong et al., NAACL 2021, github.com/Yale-LILY/QMSum); expected are "
    "qmsum/documents/NAME.txt and qmsum/queries.jsonl under --data or UNABRIDGED_DATA"
)


def facts() -> dict[str, str]:
    """Where and with what a figure was measured."""
    packages = ("torch", "transformers", "sentence-transformers", "numpy", "lancedb")
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {_processor()}, {torch.get_num_threads()} threads",
        "system": f"{platform.system()}, Python {platform.python_version()}",
        "versions": ", ".join(f"{name} {version(name)}" for name in packages),
    }


def report(name: str, rows: list[dict[str, Any]], about: dict[str, Any] | None = None) -> None:
    """Print rows as a table under what they were measured with, and keep both as JSON."""
    about = {**facts(), **(about or {})}
    for key, value in about.items():
        print(f"{key}: {value}")
    print()
    print_table(rows)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"about": about, "rows": rows}, indent=2, default=str))
    print(f"\nwritten to {path}")


def print_table(rows: list[dict[str, Any]]) -> None:
    """Rows of equal keys as a Markdown table."""
    heads = list(rows[0])
    print("| " + " | ".join(heads) + " |")
    print("|" + " --- |" * len(heads))
    for row in rows:
        print("| " + " | ".join(str(row[head]) for head in heads) + " |")


def data_folder(given: str | None) -> Path | None:
    """The development data, or None with one line that says where to get it."""
    place = given or os.environ.get("UNABRIDGED_DATA")
    if place and (Path(place) / "qmsum" / "queries.jsonl").exists():
        return Path(place)
    print(f"skipped: no development data; wanted {DATA_HINT}.")
    return None


class PeakMemory:
    """By how much this process grows at its peak from now on, in MB; Linux only.

    The peak is set back first: else it would be that of loading, which a short pass stays below.
    """

    def __init__(self) -> None:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
        self._before = _resident("VmRSS")

    def growth(self) -> float:
        """The highest point so far, over the start."""
        return _resident("VmHWM") - self._before


def _resident(field: str) -> float:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    found = re.search(rf"{field}:\s+(\d+) kB", status)
    if found is None:
        raise SystemExit(f"/proc/self/status has no {field}; memory is measured on Linux only.")
    return int(found[1]) / 1024


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    facts = {key.strip(): value.strip() for key, _, value in (s.partition(":") for s in lines)}
    wanted = ("avx512f", "avx512_bf16", "amx_bf16")
    flags = [flag for flag in wanted if flag in facts.get("flags", "").split()]
    return f"{facts.get('model name', 'unknown')} ({', '.join(flags)})"
