"""Runs side by side: one page of HTML that needs nothing else, and the same tables as Markdown.

    folders.py (a folder -> RunFacts) -> panels.py (scores that compare) -> curves.py, strips.py (drawings) -> page.py, markdown.py

Everything in it was read from the runs' own files or stands in published.py with its source. Text from files can only become text: every
string is escaped where it meets markup (html.py), and drawings hold numbers alone.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gpt_kit.errors import DataError
from gpt_kit.evaluation.report.folders import read_run
from gpt_kit.evaluation.report.markdown import report_as_markdown
from gpt_kit.evaluation.report.page import report_as_html
from gpt_kit.evaluation.report.panels import Panel, panels_of
from gpt_kit.evaluation.report.published import PUBLISHED, Published, published_beside
from gpt_kit.evaluation.report.runs import RunFacts
from gpt_kit.evaluation.report.scores import Score, read_scores
from gpt_kit.files import write_atomically
from gpt_kit.version import __version__

TITLE = "gpt-kit report"

__all__ = [
    "PUBLISHED",
    "Panel",
    "Published",
    "Report",
    "RunFacts",
    "Score",
    "panels_of",
    "published_beside",
    "read_run",
    "read_scores",
    "write_report",
]


@dataclass(frozen=True, slots=True)
class Report:
    """What was written."""

    html: Path
    markdown: Path
    runs: list[RunFacts]
    problems: list[str]
    """What was left out, each with its file."""


def write_report(paths: Sequence[Path], out: Path, title: str = TITLE) -> Report:
    """Write OUT.html and OUT.md about the runs, model folders and .jsonl files of scores in `paths`.

    Raises: DataError where none of them is one; DiskFullError.
    """
    runs, problems = _read(paths)
    if not runs:
        raise DataError(
            f"{', '.join(map(str, paths)) or 'nothing'}: no run, so nothing to report. A run is what gpt-kit train writes: runs/NAME"
        )
    panels = panels_of(runs)
    out = out.with_suffix("") if out.suffix in (".html", ".md") else out
    html, markdown = out.with_name(f"{out.name}.html"), out.with_name(f"{out.name}.md")
    footer = f"{len(runs)} {'run' if len(runs) == 1 else 'runs'} · {time.strftime('%Y-%m-%d %H:%M')} · gpt-kit {__version__}"
    everything = problems + [problem for run in runs for problem in run.problems]
    write_atomically(html, report_as_html(runs, panels, problems, title, footer))
    write_atomically(markdown, report_as_markdown(runs, panels, everything, title))
    return Report(html, markdown, runs, everything)


def _read(paths: Sequence[Path]) -> tuple[list[RunFacts], list[str]]:
    """The runs, by names that differ, and a line for every path that is none."""
    names = [path.absolute().name for path in paths]
    runs: list[RunFacts] = []
    problems: list[str] = []
    files = [path.name for path in paths if path.is_file() and path.suffix != ".jsonl"]  # runs/* takes whatever lies beside the runs
    if files:
        problems.append(f"{', '.join(files[:3])}{' …' * (len(files) > 3)}: {len(files)} files that are no runs; left out")
    for path, name in zip(paths, names, strict=True):
        run = read_run(path, name if names.count(name) == 1 else str(path))
        if run is None and not path.is_file():
            problems.append(
                f"{path}: neither a run nor a model; left out" if path.exists() else f"{path}: there is no such folder; left out"
            )
        elif run is not None and all(run.folder.resolve() != other.folder.resolve() for other in runs):
            run.number = len(runs) + 1
            runs.append(run)
    return runs, problems
