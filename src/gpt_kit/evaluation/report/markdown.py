"""The report as Markdown: the tables alone, to be put beside code."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from gpt_kit.evaluation.report.facts import SUMMARY, summary
from gpt_kit.evaluation.report.panels import Panel
from gpt_kit.evaluation.report.published import SOURCES
from gpt_kit.evaluation.report.runs import RunFacts
from gpt_kit.evaluation.report.scores import counted, shown

_MARKS = str.maketrans({mark: f"\\{mark}" for mark in "\\`*_[]|$~"} | {"\n": " ", "\r": " "})


def report_as_markdown(runs: Sequence[RunFacts], panels: Sequence[Panel], problems: Sequence[str], title: str) -> str:
    """Runs, scores beside published ones, hashes, commands, and what was left out."""
    hashes = [
        (run.name, name, digest) for run in runs for name, digest in [*([run.weights] if run.weights else []), *run.data_hashes.items()]
    ]
    parts = [f"# {_plain(title)}", _table(SUMMARY, (summary(run).values() for run in runs))]
    if panels:
        rows = [row for panel in panels for row in _score_rows(panel)]
        parts += ["## Scores", "± is one standard error.", _table(("figure", "model", "value", "over", "remarks"), rows)]
    if hashes:
        parts += ["## Hashes", _table(("run", "of", "SHA-256"), hashes)]
    if commands := [run.command for run in runs if run.command]:
        parts += ["## Repeat", "\n".join(f"    {line}" for command in commands for line in command.splitlines())]
    if problems:
        parts += ["## Left out", "\n".join(f"- {_plain(problem)}" for problem in problems)]
    return "\n\n".join(parts) + "\n"


def _score_rows(panel: Panel) -> Iterable[tuple[object, ...]]:
    for run, score in panel.scores:
        value = shown(score.metric, score.value, score.stderr)
        yield panel.title, panel.name(run, score), value, counted(score.count, score.unit), panel.remark(run, score)
    for known in panel.published:
        value = shown(panel.metric, known.value, known.stderr)
        yield (
            panel.title,
            f"{known.model} (published)",
            value,
            counted(known.count),
            f"{known.differs} ({known.source}: {SOURCES[known.source]})",
        )


def _table(head: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    lines = [head, ["---"] * len(head)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [*lines, *([_plain(cell) for cell in row] for row in rows)])


def _plain(value: object) -> str:
    """Text that stays text: neither Markdown nor HTML comes of it."""
    return escape(str(value).translate(_MARKS), quote=False)
