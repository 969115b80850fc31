"""Runs: curves of running and finished runs, compared, and what they write, as it comes."""

from __future__ import annotations

import time

import pandas as pd
import streamlit as st

from gpt_kit.evaluation.report.runs import RunFacts
from gpt_kit.studio.folder import Place, last_change
from gpt_kit.studio.history import Sample, is_running, progress, read_history, read_samples
from gpt_kit.studio.parts.curves import ACROSS, FIGURES, draw_curves
from gpt_kit.studio.parts.models import Studio
from gpt_kit.studio.parts.words import kept, title

EVERY_SECONDS = 2
"""How often the page is drawn anew while something runs."""
FIRST = 4
"""Runs that are shown before anybody chose."""


def show(studio: Studio) -> None:
    """The room."""
    title("Runs", "How training goes, or went. A run that is still going is followed as it writes.")
    runs = {place.name: place for place in studio.folder.runs()}
    if not runs:
        st.info(
            "No run here yet. A first one, from raw text to a GPT, takes four minutes: `gpt-kit quickstart`", icon=":material/potted_plant:"
        )
        return
    key = kept("runs", list(runs)[:FIRST])
    st.session_state[key] = [name for name in st.session_state[key] if name in runs]
    chosen = st.multiselect("Runs", list(runs), key=key, label_visibility="collapsed", placeholder="Choose runs")
    places = [runs[name] for name in chosen]
    follows = any(is_running(read_history(studio.folder, place)) for place in places)
    st.fragment(_curves, run_every=EVERY_SECONDS if follows else None)(studio, places, list(runs), follows)


def _curves(studio: Studio, places: list[Place], names: list[str], follows: bool) -> None:
    """All that changes while a run goes on."""
    facts = [read_history(studio.folder, place) for place in places]
    if follows and not any(map(is_running, facts)):
        st.rerun()  # the last one has ended: there is nothing to follow any more
    if not facts:
        st.caption("Choose a run above.")
        return
    left, right = st.columns([4, 1], vertical_alignment="center")
    figure = left.segmented_control("Figure", list(FIGURES), key=kept("figure", "Loss"), label_visibility="collapsed") or "Loss"
    across = right.segmented_control("Over", list(ACROSS), key=kept("across", "Steps"), label_visibility="collapsed") or "Steps"
    chart = draw_curves(facts, figure, across, names)
    if chart is None:
        st.caption("Nothing was recorded yet.")
    else:
        st.altair_chart(chart)
    st.dataframe(
        table(facts),
        hide_index=True,
        width="stretch",
        column_config={
            "best validation loss": st.column_config.NumberColumn(format="%.3f"),
            "tokens seen": st.column_config.NumberColumn(format="localized"),
            "tokens/s": st.column_config.NumberColumn(format="localized"),
            "done": st.column_config.ProgressColumn("done", format="percent", min_value=0, max_value=1, width="small"),
        },
    )
    _samples(studio, places)


def table(runs: list[RunFacts]) -> pd.DataFrame:
    """One row a run."""
    return pd.DataFrame([_row(run) for run in runs])


def _row(run: RunFacts) -> dict[str, object]:
    speeds = [record["tokens_per_second"] for record in run.records if record.get("tokens_per_second")]
    shape = run.config.get("model", {})
    return {
        "run": run.name,
        "kind": run.kind,
        "state": state(run),
        "done": progress(run),
        "step": run.step,
        "best validation loss": run.best[0] if run.best else None,
        "tokens seen": run.tokens_seen,
        "tokens/s": round(speeds[-1]) if speeds else None,
        "minutes": round(run.seconds / 60, 1),
        "shape": f"{shape.get('n_layer', '?')} layers of {shape.get('n_embd', '?')}",
    }


def state(run: RunFacts) -> str:
    """running, stopped, or finished."""
    if is_running(run):
        return f"running, wrote {max(0, time.time() - last_change(run.folder)):.0f} s ago"
    return "stopped" if run.status.startswith("unfinished") else run.status


def _samples(studio: Studio, places: list[Place]) -> None:
    st.subheader("What it writes", anchor=False)
    left, right = st.columns([1, 2], gap="large")
    names = [place.name for place in places]
    key = kept("sample_run", names[0])
    if st.session_state[key] not in names:
        st.session_state[key] = names[0]
    name = left.selectbox("Run", names, key=key) if len(names) > 1 else names[0]
    place = places[names.index(name)]
    samples = read_samples(studio.folder, place)
    if not samples:
        st.caption("It has written nothing yet: a sample comes with every evaluation.")
        return
    last = samples[-1].step
    steps = sorted({sample.step for sample in samples})
    step = right.select_slider("At step", steps, value=last, key=f"sample_{place.name}_{last}") if len(steps) > 1 else last
    _draw(next(sample for sample in reversed(samples) if sample.step == step))


def _draw(sample: Sample) -> None:
    if sample.title:
        st.text(f"step {sample.step:,} · {sample.title}")
    written, expected = st.columns(2, gap="large") if sample.predictions else (st.container(), None)
    across = len({label for label, _ in sample.parts}) or 1  # asked, wanted, answered: side by side
    with written:
        for start in range(0, len(sample.parts), across):
            for column, (label, text) in zip(st.columns(across), sample.parts[start : start + across], strict=False):
                if label and start == 0:
                    column.text(label)
                column.code(text, language=None, wrap_lines=True)
    if expected is not None:
        with expected:
            rows = [{"it read": read, "then came": came, "it expected": said, "p": p} for read, came, said, p in sample.predictions]
            st.dataframe(
                pd.DataFrame(rows),
                hide_index=True,
                width="stretch",
                column_config={
                    "p": st.column_config.ProgressColumn("probability of what came", format="percent", min_value=0, max_value=1)
                },
            )
