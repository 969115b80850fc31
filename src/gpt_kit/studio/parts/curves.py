"""The curves of runs, as a chart: training thin, validation strong with dots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import pandas as pd

from gpt_kit.evaluation.report.runs import RunFacts
from gpt_kit.studio.history import curve

COLOURS = ["#2f7f86", "#d9822b", "#7a5ea8", "#b5495b", "#5b8c3e", "#3b6ea5", "#a0784a", "#5f6b73"]
FIGURES = {
    "Loss": ("val/loss", "train/loss", "loss (nats per token)"),
    "Learning rate": ("learning_rate", "", "learning rate"),
    "Gradient norm": ("grad_norm", "", "norm of the gradient"),
    "Speed": ("tokens_per_second", "", "tokens per second"),
}
ACROSS = {"Steps": ("step", "step"), "Tokens": ("tokens_seen", "tokens seen")}


def colour_of(name: str, names: Sequence[str]) -> str:
    """A run keeps its colour as long as the folder holds the same runs."""
    return COLOURS[sorted(names).index(name) % len(COLOURS)]


def draw_curves(runs: Sequence[RunFacts], figure: str, across: str, names: Sequence[str]) -> Any:
    """One figure of all `runs` over steps or tokens; `names` are those of every run in the folder."""
    strong, thin, label = FIGURES[figure]
    field, along = ACROSS[across]
    shown = [run.name for run in runs]
    colour = alt.Color(
        "run:N",
        title=None,
        scale=alt.Scale(domain=shown, range=[colour_of(name, names) for name in shown]),
        legend=alt.Legend(orient="top", labelLimit=320, symbolOpacity=1) if len(shown) > 1 else None,
    )
    rows = {part: _rows(runs, part, field) for part in (strong, thin) if part}
    layers = []
    if thin and rows[thin]:
        layers.append(_line(rows[thin], colour, along, label, thin).mark_line(strokeWidth=1.2, opacity=0.45, interpolate="monotone"))
    if rows[strong]:
        few = len(rows[strong]) <= 80 * len(runs)
        layers.append(
            _line(rows[strong], colour, along, label, strong).mark_line(
                strokeWidth=2.4 if thin else 1.6, point=alt.OverlayMarkDef(size=42) if thin and few else False
            )
        )
    return alt.layer(*layers).properties(height=360).interactive(bind_y=False) if layers else None


def _rows(runs: Sequence[RunFacts], name: str, field: str) -> list[dict[str, Any]]:
    return [{"run": run.name, "along": x, "value": y} for run in runs for x, y in curve(run, name, field)]


def _line(rows: list[dict[str, Any]], colour: Any, along: str, label: str, name: str) -> Any:
    return alt.Chart(pd.DataFrame(rows)).encode(
        x=alt.X("along:Q", title=along, axis=alt.Axis(format="~s", grid=False)),
        y=alt.Y("value:Q", title=label, scale=alt.Scale(zero=False)),
        color=colour,
        tooltip=["run", alt.Tooltip("along:Q", title=along, format=",.0f"), alt.Tooltip("value:Q", title=name, format=".4g")],
    )
