"""Held-out loss against steps as an SVG: a thin line a seed, a thick one for their mean."""

from __future__ import annotations

import statistics

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 400, 60, 20, 30, 50
COLOURS = ("#8a8a8a", "#2b6cb0", "#c05621", "#c0a021")


def draw(curves, path):
    """Write the plot of {name: [[(step, loss), …] of each seed]}; the first third is left out."""
    points = [p for runs in curves.values() for run in runs for p in run]
    last = max(step for step, _ in points)
    first = last / 3
    seen = [loss for step, loss in points if step >= first]
    frame = (first, last, min(seen) - 0.02, max(seen) + 0.02)
    lines = [_opening(), *_axes(frame)]
    for (name, runs), colour, row in zip(
        curves.items(), COLOURS, range(len(COLOURS)), strict=False
    ):
        lines.extend(_line(run, frame, colour, 0.6) for run in runs)
        mean = [(at[0][0], statistics.mean(x for _, x in at)) for at in zip(*runs, strict=True)]
        lines.append(_line(mean, frame, colour, 2.2))
        y = TOP + 18 * row + 12
        lines.append(
            f'<text x="{WIDTH - RIGHT - 6}" y="{y}" text-anchor="end" fill="{colour}">{name}</text>'
        )
    path.write_text("\n".join([*lines, "</svg>", ""]), encoding="utf-8")
    print(f"drawn in {path}")


def _opening():
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'font-family="sans-serif" font-size="13" fill="#444">'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>'
    )


def _axes(frame):
    first, last, low, high = frame
    corner = f"M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}"
    yield f'<path d="{corner}" fill="none" stroke="#888"/>'
    yield f'<text x="{WIDTH / 2}" y="{HEIGHT - 12}" text-anchor="middle">steps</text>'
    yield f'<text x="{LEFT}" y="{TOP - 10}">held-out loss, nats</text>'
    for i in range(5):
        value = low + (high - low) * i / 4
        y = _place(0, value, frame)[1] + 4
        yield f'<text x="{LEFT - 6}" y="{y:.1f}" text-anchor="end">{value:.2f}</text>'
        step = first + (last - first) * i / 4
        x = _place(step, low, frame)[0]
        yield f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{step:.0f}</text>'


def _place(step, loss, frame):
    first, last, low, high = frame
    x = LEFT + (WIDTH - LEFT - RIGHT) * (step - first) / (last - first)
    return x, HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * (loss - low) / (high - low)


def _line(points, frame, colour, width):
    places = (_place(*p, frame) for p in points if p[0] >= frame[0])
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"/>'
