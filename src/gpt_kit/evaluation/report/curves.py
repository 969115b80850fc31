"""Losses of all runs in one drawing: an SVG for the page, in the page's own colours and without a word from any file.

Training is a thin line, validation a strong one, with dots where they are few; a number at the end of each says which run it is, so that
it is read without colours too. Losses per token compare only under one tokenizer; where runs have several, a second panel shows validation
in bits per byte over bytes of text.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gpt_kit.evaluation.report.html import Html
from gpt_kit.evaluation.report.runs import RunFacts

COLOURS = 8
"""How many the page has; more runs begin them anew, with dashes."""
MOST_DOTS = 60
"""Of a validation curve, beyond which it is a line alone."""
MOST_POINTS = 500
"""Of a training curve; neighbours of a longer one are averaged."""
TOKENS = "tokens seen in training"
CLASSIFIER = ("val/loss", "validation loss (nats per text)"), ("val/accuracy", "validation accuracy")
_INK, _FAINT = "#0a0c01", "#0a0c02"  # stand for the page's own, as do those of `_stand_in`

Points = list[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Curve:
    """One run in one panel."""

    number: int
    train: Points
    val: Points


def drawable(run: RunFacts) -> bool:
    """Whether there is anything to draw."""
    return bool(_points(run, "train/loss") or _points(run, "val/loss"))


def draw_curves(runs: Sequence[RunFacts]) -> Html:
    """The drawing of at least one run, all of one kind, as SVG."""
    if runs[0].kind == "classification":  # whose loss in training holds the language model's too
        panels = [([Curve(run.number, [], _points(run, name)) for run in runs], TOKENS, up) for name, up in CLASSIFIER]
    else:
        panels = [
            (
                [Curve(run.number, thinned(_points(run, "train/loss")), _points(run, "val/loss")) for run in runs],
                TOKENS,
                "loss (nats per token)",
            )
        ]
    per_byte = [Curve(run.number, [], _in_bytes(run)) for run in runs if _in_bytes(run)]
    if len(per_byte) > 1 and len({run.tokenizer for run in runs}) > 1:
        panels.append((per_byte, "bytes of text seen in training", "validation loss (bits per byte)"))
    return _svg([([curve for curve in curves if curve.train or curve.val], across, up) for curves, across, up in panels])


def thinned(points: Points) -> Points:
    """At most MOST_POINTS of them, each the mean of as many neighbours."""
    size = -(-len(points) // MOST_POINTS) or 1
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    return [(sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]


def _points(run: RunFacts, name: str) -> Points:
    return [(record["tokens_seen"], record[name]) for record in run.records if name in record]


def _in_bytes(run: RunFacts) -> Points:
    """(bytes seen, bits per byte), by the bytes per token of the validation text."""
    size = run.bytes_per_token
    return [] if size is None else [(tokens * size, loss / math.log(2) / size) for tokens, loss in _points(run, "val/loss")]


def _svg(panels: list[tuple[list[Curve], str, str]]) -> Html:
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {
        "svg.fonttype": "none", "svg.hashsalt": "gpt-kit", "font.size": 10, "axes.edgecolor": _FAINT, "axes.labelcolor": _INK,
        "xtick.color": _FAINT, "ytick.color": _FAINT, "xtick.labelcolor": _INK, "ytick.labelcolor": _INK, "text.color": _INK,
    }  # fmt: skip
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(10.4, 3.9), layout="constrained")
        FigureCanvasSVG(figure)
        for i, (curves, across, up) in enumerate(panels, start=1):
            _draw_panel(figure.add_subplot(1, len(panels), i), curves, across, up)
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    drawing = file.getvalue()
    drawing = drawing[drawing.index("<svg") :].replace(_INK, "var(--ink)").replace(_FAINT, "var(--faint)")
    for number in range(COLOURS):
        drawing = drawing.replace(_stand_in(number), f"var(--run-{number})")
    return Html(drawing)


def _draw_panel(axes: Any, curves: list[Curve], across: str, up: str) -> None:
    from matplotlib.ticker import EngFormatter

    for curve in curves:
        look = {"color": _stand_in((curve.number - 1) % COLOURS), "linestyle": ("-", "--", ":")[(curve.number - 1) // COLOURS % 3]}
        if curve.train:
            axes.plot(*zip(*curve.train, strict=True), **look, linewidth=0.8, alpha=0.45)
        if curve.val:
            axes.plot(
                *zip(*curve.val, strict=True), **look, linewidth=1.8, marker="o" if len(curve.val) <= MOST_DOTS else "", markersize=3.5
            )
    axes.set(xlabel=across, ylabel=up)
    axes.grid(color=_FAINT, alpha=0.35, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    if not curves:
        return
    ends = {curve.number: (curve.val or curve.train)[-1] for curve in curves}
    last = [x for x, _ in ends.values()]
    if max(last) > 30 * max(min(last), 1):
        axes.set_xscale("log")
    else:
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.set_xlim(left=0)
    axes.margins(x=0.03)
    _number_ends(axes, ends)


def _number_ends(axes: Any, ends: dict[int, tuple[float, float]]) -> None:
    """Write each run's number beside the end of its curve, moved where two would meet."""
    low, high = axes.get_ylim()
    line = (high - low) * 0.05
    order = sorted(ends, key=lambda number: ends[number][1])
    free = low - line / 2
    for i, number in enumerate(order):
        x, y = ends[number]
        free = min(max(y, free + line), high - (len(order) - 1 - i) * line)
        colour = _stand_in((number - 1) % COLOURS)
        axes.annotate(
            str(number),
            (x, free),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            color=colour,
            fontweight="bold",
            annotation_clip=False,
        )


def _stand_in(colour: int) -> str:
    """A colour that occurs nowhere else, in the place of the page's."""
    return f"#0a0b{colour:02x}"
