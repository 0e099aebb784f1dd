"""The losses of a run: one JSON object a line, and a drawing of them that any browser opens."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["History", "draw_losses"]

Point = tuple[float, float]

_WIDTH, _HEIGHT, _MARGIN = 720, 360, 56
_FONT = 'font-family="sans-serif" font-size="12" fill="#444"'


class History:
    """Facts of steps and of looks at held-out data, in a file that grows by a line each.

    Args:
        path: a .jsonl file; continued where it exists.
        steps: what is known of later steps is forgotten: they will be made again.
    """

    def __init__(self, path: Path, *, steps: int) -> None:
        self.path = path
        kept = [entry for entry in read_history(path) if entry["step"] <= steps]
        path.parent.mkdir(parents=True, exist_ok=True)
        text = "".join(json.dumps(entry) + "\n" for entry in kept)
        path.write_text(text, encoding="utf-8")
        self._file = path.open("a", encoding="utf-8")

    def add(self, **facts: float) -> None:
        """Note one line; it is in the file when this returns."""
        self._file.write(json.dumps(facts) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file and draw it beside itself."""
        self._file.close()
        picture = self.path.with_suffix(".svg")
        picture.write_text(draw_losses(read_history(self.path)), encoding="utf-8")


def read_history(path: Path) -> list[dict[str, Any]]:
    """The lines of a history; a last one that a kill cut short is left out."""
    if not path.exists():
        return []
    entries = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entries.append(json.loads(line))
        except ValueError:
            break
    return entries


def draw_losses(entries: Sequence[dict[str, Any]]) -> str:
    """An SVG of the training loss, its running mean, and the held-out loss, by step.

    >>> draw_losses([{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}]).count("<polyline")
    2
    """
    losses = [(e["step"], e["loss"]) for e in entries if "loss" in e]
    held_out = [(e["step"], e["held_out"]) for e in entries if "held_out" in e]
    everything = [*losses, *held_out] or [(0.0, 0.0)]
    low, high = min(y for _, y in everything), max(y for _, y in everything)
    frame = (max(x for x, _ in everything) or 1.0, low, high if high > low else low + 1.0)
    series = (
        ("each step", "#c8d4e3", losses),
        ("running mean", "#2b6cb0", _smoothed(losses)),
        ("held out", "#c05621", held_out),
    )
    drawn = [_line(name, colour, points, frame) for name, colour, points in series if points]
    names = [(name, colour) for name, colour, points in series if points]
    return "\n".join([_opening(frame), *drawn, *_legend(names), "</svg>", ""])


def _smoothed(points: Sequence[Point]) -> list[Point]:
    """Mean of the last steps, a twentieth of the run at most."""
    span = max(1, len(points) // 20)
    means = []
    for index, (x, _) in enumerate(points):
        window = points[max(0, index + 1 - span) : index + 1]
        means.append((x, sum(y for _, y in window) / len(window)))
    return means


def _line(name: str, colour: str, points: Sequence[Point], frame: tuple[float, ...]) -> str:
    last, low, high = frame
    across, up = _WIDTH - 2 * _MARGIN, _HEIGHT - 2 * _MARGIN
    places = " ".join(
        f"{_MARGIN + across * x / last:.1f},{_HEIGHT - _MARGIN - up * (y - low) / (high - low):.1f}"
        for x, y in points
    )
    return (
        f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="1.5">'
        f"<title>{name}</title></polyline>"
    )


def _opening(frame: tuple[float, ...]) -> str:
    last, low, high = frame
    bottom, right = _HEIGHT - _MARGIN, _WIDTH - _MARGIN
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" {_FONT}>',
            f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
            f'<path d="M{_MARGIN} {_MARGIN}V{bottom}H{right}" fill="none" stroke="#888"/>',
            f'<text x="{_MARGIN - 6}" y="{_MARGIN + 4}" text-anchor="end">{high:.4g}</text>',
            f'<text x="{_MARGIN - 6}" y="{bottom + 4}" text-anchor="end">{low:.4g}</text>',
            f'<text x="{right}" y="{bottom + 18}" text-anchor="end">step {last:,.0f}</text>',
            f'<text x="{_MARGIN}" y="{_MARGIN - 14}">loss</text>',
        ]
    )


def _legend(names: Sequence[tuple[str, str]]) -> list[str]:
    return [
        f'<text x="{_MARGIN + 120 + 120 * place}" y="{_MARGIN - 14}" fill="{colour}">{name}</text>'
        for place, (name, colour) in enumerate(names)
    ]
