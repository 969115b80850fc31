"""`gpt-kit report`: runs side by side, as one page of HTML and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from gpt_kit.cli.arguments import parse


@dataclass(frozen=True, kw_only=True)
class ReportArguments:
    """Set runs side by side: what each one is, its curves, its scores beside published ones, hashes, and the command that repeats it.

    Writes one HTML page that needs nothing else, and the same tables as Markdown. What is damaged is named and left out.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Runs, folders of models, and .jsonl files that gpt-kit eval wrote: runs/* takes all."""
    out: Path = Path("report")
    """Where to write, without an ending: OUT.html and OUT.md."""
    title: str = "gpt-kit report"
    """The heading."""


def main(words: Sequence[str]) -> None:
    """Write both files and say where they are."""
    arguments = parse(ReportArguments, "report", words)

    from gpt_kit.cli.display import console, note
    from gpt_kit.evaluation.report import write_report

    report = write_report(arguments.runs, arguments.out, arguments.title)
    for problem in report.problems:
        note(problem)
    console.print(
        f"report  {len(report.runs)} runs, {sum(len(run.scores) for run in report.runs)} scores: {report.html} and {report.markdown}"
    )
