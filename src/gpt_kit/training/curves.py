"""Loss curves: a PNG for people and reports, and a few lines of text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gpt_kit.training.metrics import Record

Points = Sequence[tuple[float, float]]
DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # the eight dots of a braille character, by row and column


def points_of(records: Sequence[Record], name: str) -> list[tuple[float, float]]:
    """(step, value) wherever `name` was measured."""
    return [(record["step"], record[name]) for record in records if record.get(name) is not None]


def draw_loss_png(path: Path, records: Sequence[Record], title: str) -> None:
    """Training and validation loss over steps, with tokens along the top."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, color, style in (("train/loss", "#9aa5b1", "-"), ("val/loss", "#d9480f", "o-")):
        points = points_of(records, name)
        if points:
            axes.plot(
                *zip(*points, strict=True),
                style,
                color=color,
                label=name,
                linewidth=1.6 if name == "val/loss" else 1.0,
                markersize=4,
            )
    best = min(points_of(records, "val/loss"), key=lambda point: point[1], default=None)
    if best is not None:
        axes.annotate(f"{best[1]:.3f}", best, textcoords="offset points", xytext=(0, 8), ha="center", color="#d9480f")
    axes.set(xlabel="step", ylabel="loss (nats per token)", title=title)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path)


def draw_loss_text(points: Points, width: int = 60, height: int = 10) -> str:
    """The same in braille dots, with the highest and lowest value at the left; empty for fewer than two points."""
    if len(points) < 2:
        return ""
    xs, ys = [x for x, _ in points], [y for _, y in points]
    low_x, low, high = min(xs), min(ys), max(ys)
    span_x, span = max(xs) - low_x or 1, high - low or 1
    columns, rows = width * 2, height * 4
    cells = [[0] * width for _ in range(height)]
    previous: int | None = None
    for column in range(columns):
        x = low_x + span_x * column / (columns - 1)
        row = round((high - _interpolate(points, x)) / span * (rows - 1))
        start, end = sorted((row if previous is None else previous, row))
        for dot in range(start, end + 1):  # joined to the last dot, so that a steep fall stays a line
            cells[dot // 4][column // 2] |= DOTS[dot % 4][column % 2]
        previous = row
    lines = ["".join(chr(0x2800 + cell) for cell in line) for line in cells]
    labels = [f"{high:7.3f} ┤", *["        │"] * (height - 2), f"{low:7.3f} ┤"]
    axis = f"        └{'─' * width}\n         step {low_x:<{width - 12}.0f}{max(xs):>7.0f}"
    return "\n".join(label + line for label, line in zip(labels, lines, strict=True)) + "\n" + axis


def _interpolate(points: Points, x: float) -> float:
    for (x0, y0), (x1, y1) in zip(points, points[1:], strict=False):
        if x <= x1:
            return y0 + (y1 - y0) * (x - x0) / (x1 - x0 or 1)
    return points[-1][1]
