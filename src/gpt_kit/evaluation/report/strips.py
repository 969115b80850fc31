"""Dots and whiskers: one figure of several models on one scale, as a table whose rows hold a drawing of a line each.

Positions are shares of the strip's width, so that the page may have any width; the figures stand beside the drawing as text.
"""

from __future__ import annotations

from dataclasses import dataclass

from gpt_kit.evaluation.report.curves import COLOURS
from gpt_kit.evaluation.report.html import Html, joined, number, table, tag
from gpt_kit.evaluation.report.panels import Panel
from gpt_kit.evaluation.report.published import SOURCES
from gpt_kit.evaluation.report.runs import RunFacts
from gpt_kit.evaluation.report.scores import BAG_OF_WORDS, SHARES, counted, shown

WHISKER = 1.96  # standard errors on each side: 95 % of a normal distribution
HEIGHT = 26  # pixels
DOT = 5


@dataclass(frozen=True, slots=True)
class Scale:
    """Values -> places on the strip."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def at(self, value: float) -> str:
        """A share of the width, as SVG writes it."""
        return f"{100 * (value - self.low) / (self.high - self.low):.3f}%"


def disc(run: RunFacts) -> Html:
    """The mark of a run: its number on its colour, the same wherever the run is meant."""
    return tag("span", run.number, class_="disc", style=f"--c:{_colour(run)}")


def score_table(panel: Panel) -> Html:
    """One panel: ours by their colours, published ones hollow."""
    scale, metric = scale_of(panel), panel.metric
    rows = []
    for run, score in panel.scores:
        figures = _figures(metric, score.value, score.stderr, counted(score.count, score.unit))
        colour, paint = _colour(run), "var(--paper)" if score.task == BAG_OF_WORDS else _colour(run)
        strip = _strip(scale, panel, score.value, score.stderr, colour, paint)
        rows.append([joined([disc(run), " ", panel.name(run, score)]), strip, *figures, panel.remark(run, score)])
    for known in panel.published:
        figures = _figures(metric, known.value, known.stderr, counted(known.count))
        remarks = tag("span", f"{known.differs} ({known.source})", title=SOURCES[known.source])
        strip = _strip(scale, panel, known.value, known.stderr, "var(--faint)", "var(--paper)")
        rows.append([tag("span", known.model, class_="published"), strip, *figures, remarks])
    rows.append(["", _axis(scale, metric), "", "", ""])
    head = ("model", "", number("value", "th"), number("over", "th"), "remarks")
    return joined([tag("h3", panel.title), tag("p", panel.note, class_="note") if panel.note else "", table(head, rows, class_="scores")])


def scale_of(panel: Panel) -> Scale:
    """From the lowest whisker to the highest, and a little more."""
    from matplotlib.ticker import MaxNLocator

    pairs = [(score.value, score.stderr) for _, score in panel.scores if score.value is not None]
    pairs += [(known.value, known.stderr) for known in panel.published]
    ends = [value + side * WHISKER * (stderr or 0) for value, stderr in pairs for side in (-1, 1)]
    ends += [panel.chance] if panel.chance is not None else []
    low, high = min(ends, default=0.0), max(ends, default=1.0)
    room = (high - low) * 0.06 or abs(high) * 0.05 or 1.0
    low, high = low - room, high + room
    ticks = tuple(float(tick) for tick in MaxNLocator(5).tick_values(low, high) if low <= tick <= high)
    return Scale(low, high, ticks)


def _figures(metric: str, value: float | None, stderr: float | None, over: str) -> list[Html]:
    exact = tag("data", shown(metric, value, stderr), value="" if value is None else repr(value))
    return [number(exact), number(over)]


def _colour(run: RunFacts) -> str:
    return f"var(--run-{(run.number - 1) % COLOURS})"


def _strip(scale: Scale, panel: Panel, value: float | None, stderr: float | None, stroke: str, paint: str) -> Html:
    middle = HEIGHT / 2
    marks = [tag("line", x1=scale.at(tick), x2=scale.at(tick), y1=0, y2=HEIGHT, class_="grid") for tick in scale.ticks]
    if panel.chance is not None:
        marks.append(tag("line", x1=scale.at(panel.chance), x2=scale.at(panel.chance), y1=0, y2=HEIGHT, class_="chance"))
    if value is not None and stderr:
        low, high = scale.at(value - WHISKER * stderr), scale.at(value + WHISKER * stderr)
        marks.append(tag("line", x1=low, x2=high, y1=middle, y2=middle, stroke=stroke, stroke_width=2))
        marks += [tag("line", x1=x, x2=x, y1=middle - 4, y2=middle + 4, stroke=stroke, stroke_width=2) for x in (low, high)]
    if value is not None:
        marks.append(tag("circle", cx=scale.at(value), cy=middle, r=DOT, fill=paint, stroke=stroke, stroke_width=2))
    return tag("td", tag("svg", *marks, width="100%", height=HEIGHT, aria_hidden="true"), class_="strip")


def _axis(scale: Scale, metric: str) -> Html:
    factor, unit = (100, " %") if metric in SHARES else (1, "")
    labels = [tag("text", f"{tick * factor:,.10g}{unit}", x=scale.at(tick), y=14, text_anchor="middle") for tick in scale.ticks]
    return tag("td", tag("svg", *labels, width="100%", height=20, aria_hidden="true"), class_="strip axis")
