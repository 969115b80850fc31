"""Figures in a terminal, and the file of a run that keeps them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpt_kit.evaluation.records import Evaluation


def print_evaluations(evaluations: Iterable[Evaluation]) -> None:
    """A table, one line a figure."""
    from rich.table import Table

    from gpt_kit.cli.display import console

    table = Table("task", "metric", "value", "± standard error", "over", box=None, pad_edge=False)
    for column in table.columns[2:4]:
        column.justify = "right"
    for evaluation in evaluations:
        for figure in evaluation.figures:
            error = "unknown" if figure.stderr is None else f"± {figure.stderr:.4f}"
            table.add_row(evaluation.task, figure.metric, f"{figure.value:.4f}", error, f"{figure.count:,} {figure.unit}")
    console.print(table)


def evaluations_file(model: str, folder: Path) -> Path | None:
    """RUN/evaluations.jsonl where MODEL, which lies in `folder`, is a run or one of its checkpoints."""
    from gpt_kit.evaluation.records import EVALUATIONS
    from gpt_kit.locate import run_of

    run = run_of(Path(model).expanduser()) or (run_of(folder.parent) if folder.parent.name == "checkpoints" else None)
    return run / EVALUATIONS if run else None
