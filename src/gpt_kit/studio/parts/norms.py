"""Norms as charts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import pandas as pd
from torch import Tensor

from gpt_kit.studio.inside import Inside

INK = ["#f3eee2", "#d7dccb", "#9fc0b4", "#5a9a9b", "#2f6f7c", "#1d4656"]


def stream_chart(found: Inside, pieces: Sequence[str]) -> Any:
    """The length of every token's vector after every layer."""
    names = ["embedding", *(f"layer {layer}" for layer in range(1, len(found.stream_norms)))]
    return _map(found.stream_norms, names, pieces, "length of the vector")


def added_chart(found: Inside, pieces: Sequence[str]) -> Any:
    """What attention and feed-forward add in every layer, as a mean over tokens."""
    del pieces
    parts = (("attention", found.attention_norms), ("feed-forward", found.feed_forward_norms))
    rows = [
        {"layer": f"layer {layer}", "part": part, "added": float(row.mean())} for part, norms in parts for layer, row in enumerate(norms, 1)
    ]
    order = [f"layer {layer}" for layer in range(1, len(found.attention_norms) + 1)]
    chart = alt.Chart(pd.DataFrame(rows), title="What each layer adds, as a mean over the tokens", height=300)
    return chart.mark_bar(cornerRadiusEnd=3).encode(
        x=alt.X("layer:N", sort=order, title=None, axis=alt.Axis(labelAngle=0)),
        xOffset="part:N",
        y=alt.Y("added:Q", title="length of what is added"),
        color=alt.Color("part:N", title=None, scale=alt.Scale(range=["#d98b4a", "#3f8a8c"]), legend=alt.Legend(orient="top")),
        tooltip=["layer", "part", alt.Tooltip("added:Q", format=".2f")],
    )


def _map(norms: Tensor, names: list[str], pieces: Sequence[str], title: str) -> Any:
    columns = [f"{position} {visible(piece)}" for position, piece in enumerate(pieces, 1)]  # each is there once, so each has its column
    rows = [
        {"layer": name, "token": column, "length": float(norms[i, position])}
        for i, name in enumerate(names)
        for position, column in enumerate(columns)
    ]
    chart = alt.Chart(pd.DataFrame(rows), title="The length of each token's vector", height=30 * len(names) + 190)
    return chart.mark_rect(cornerRadius=2).encode(
        x=alt.X(
            "token:N", sort=columns, title=None, axis=alt.Axis(labelAngle=-60, labelLimit=90, labelOverlap=False, labelFont="monospace")
        ),
        y=alt.Y("layer:N", sort=names[::-1], title=None),
        color=alt.Color("length:Q", title=title, scale=alt.Scale(range=INK), legend=alt.Legend(orient="top")),
        tooltip=["token", "layer", alt.Tooltip("length:Q", format=".2f")],
    )


def visible(piece: str) -> str:
    """White space as signs."""
    return piece.replace("\n", "⏎").replace("\t", "⇥").replace(" ", "␣") or "·"
