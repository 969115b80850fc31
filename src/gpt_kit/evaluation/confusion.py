"""The confusion matrix for people: a picture, and a table for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gpt_kit.evaluation.classification import Confusion

NAMED = 20
"""Labels up to which every cell carries its number."""


def draw_confusion_png(path: Path, confusion: Confusion, labels: Sequence[str], title: str) -> None:
    """Rows are the labels, columns the answers; the colour is the share of the row, the number the count."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    size = 2.4 + 0.8 * min(len(labels), NAMED)
    figure = Figure(figsize=(size + 1, size), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    shares = confusion / confusion.sum(axis=1, keepdims=True).clip(min=1)
    axes.imshow(shares, cmap="Oranges", vmin=0, vmax=1)
    if len(labels) <= NAMED:
        for row, column in ((i, j) for i in range(len(labels)) for j in range(len(labels))):
            color = "white" if shares[row, column] > 0.6 else "#343a40"
            text = f"{confusion[row, column]:,}\n{shares[row, column]:.0%}"
            axes.text(column, row, text, ha="center", va="center", color=color, parse_math=False)
        axes.set_xticks(range(len(labels)), [_escaped(label) for label in labels], rotation=30 if len(labels) > 4 else 0)
        axes.set_yticks(range(len(labels)), [_escaped(label) for label in labels])
    axes.set(xlabel="answer", ylabel="label")
    axes.set_title(_escaped(title))
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    figure.savefig(path)


def confusion_lines(confusion: Confusion, labels: Sequence[str]) -> list[str]:
    """A heading, and one line per label: how often it got each answer."""
    width = max(6, *(len(label) for label in labels), len(f"{confusion.max():,}"))
    lines = [
        [r"label \ answer", *labels],
        *([name, *(f"{n:,}" for n in row)] for name, row in zip(labels, confusion.tolist(), strict=True)),
    ]
    return [f"{first:<{max(14, width)}}" + "".join(f"  {cell:>{width}}" for cell in cells) for first, *cells in lines]


def _escaped(text: str) -> str:
    """A dollar sign is no mathematics."""
    return text.replace("$", r"\$")
