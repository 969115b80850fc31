"""What a run looks like in a terminal: a live line while it trains, plain lines where output goes to a file."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Column
from rich.text import Text

from gpt_kit.training.metrics import Record

console = Console(highlight=False, markup=False, soft_wrap=not sys.stdout.isatty())  # a file gets whole lines, a terminal whole words
BAR_WIDTHS = (4, 24)  # characters, in a narrow terminal and in a wide one
PLAIN_LINES = 20  # how many lines of progress a file gets over a whole run
PLAIN_SECONDS = 10.0  # from one to the next where nobody knows how much there is to do


def _bar() -> BarColumn:
    """The one column that gives way where the terminal is narrow."""
    return BarColumn(bar_width=None, table_column=Column(min_width=BAR_WIDTHS[0], max_width=BAR_WIDTHS[1]))


def note(text: str) -> None:
    """A remark that somebody should read."""
    console.print(Text.assemble(("note: ", "yellow"), text))


def stage(name: str, text: str) -> None:
    """The heading of a part of a demo."""
    console.print(Text.assemble((f"{name:<10}", "bold"), text))


def print_sample(text: str) -> None:
    """What a model wrote, apart from what the kit says."""
    if console.is_terminal:
        console.print(Padding(text.strip(), (0, 10)), style="green")
    else:  # a file gets whole lines
        console.print("\n".join(f"          {line}" for line in text.strip().splitlines()))


class _Figures(ProgressColumn):
    """As many of loss, validation loss and speed as there is room for beside the other columns."""

    def render(self, task: Task) -> Text:
        figures = task.fields["figures"]
        parts = [f"{name} {figures[key]:.3f}" for name, key in (("loss", "train/loss"), ("val", "val/loss")) if key in figures]
        if "tokens_per_second" in figures:
            parts.append(f"{figures['tokens_per_second']:,.0f} tokens/s")
        others = [task.description, f"{task.completed:.0f}/{task.total:.0f}", task.fields["left"], " " * BAR_WIDTHS[0]]
        room = console.width - sum(len(text) + 1 for text in others)
        while parts and len(" · ".join(parts)) > room:
            parts.pop()
        return Text(" · ".join(parts), style="cyan")


class LiveDisplay:
    """An observer that draws step, loss, tokens/s and time left."""

    def __init__(self, first_step: int, max_steps: int) -> None:
        self.first_step, self.max_steps = first_step, max_steps
        self.started = time.monotonic()
        self.figures: Record = {}
        self.next_line = 0  # the step from which on a file gets its next line
        self.progress_bar = Progress(
            TextColumn("[bold]{task.description}"),
            _bar(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            _Figures(Column(no_wrap=True)),
            TextColumn("[dim]{task.fields[left]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self.task = self.progress_bar.add_task("training", total=max_steps, completed=first_step, figures=self.figures, left="")
        self.progress_bar.start()

    def __enter__(self) -> LiveDisplay:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def record(self, record: Record) -> None:
        """Show the newest figures."""
        self.figures.update(record)
        step = record["step"]
        if console.is_terminal:
            self.progress_bar.update(self.task, figures=self.figures)
        elif "val/loss" in record or step >= self.next_line:
            self.next_line = step + self.max_steps // PLAIN_LINES
            shown = [
                f"{name} {record[name]:.3f}" for name in ("train/loss", "val/loss", "val/whole_loss", "val/accuracy") if name in record
            ]
            if "tokens_per_second" in record:
                shown.append(f"{record['tokens_per_second']:,.0f} tokens/s")
            console.print(f"step {step}/{self.max_steps}: {', '.join(shown)}, {self._left(step)}")

    def say(self, text: str) -> None:
        """A remark, above the live line."""
        note(text)

    def progress(self, step: int, activity: str) -> None:
        """Move the bar."""
        if console.is_terminal:
            self.progress_bar.update(self.task, completed=step, description=f"{activity:<10}", left=self._left(step))

    def close(self) -> None:
        """Leave the last state on the screen."""
        self.progress_bar.stop()

    def _left(self, step: int) -> str:
        done = step - self.first_step
        if done <= 0:
            return ""
        return _time_left((time.monotonic() - self.started) / done * (self.max_steps - step))


def _time_left(seconds: float) -> str:
    return "{}:{:02d} left".format(*divmod(round(seconds), 60))


class PrepareDisplay:
    """Progress of `prepare_corpus`: call it as its `progress`."""

    def __init__(self) -> None:
        self.activity, self.size = "reading", ""
        self.begun = (time.monotonic(), 0)  # this activity: when, and at how many bytes
        self.next_line = time.monotonic() + PLAIN_SECONDS
        self.bar = Progress(
            TextColumn("[bold]{task.description}"), _bar(), TextColumn("{task.fields[size]}"),
            console=console, disable=not console.is_terminal, transient=True,
        )  # fmt: skip
        self.task = self.bar.add_task(self.activity, total=None, size="")

    def __enter__(self) -> PrepareDisplay:
        self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __call__(self, activity: str, done: int, total: int) -> None:
        now = time.monotonic()
        if activity != self.activity:
            self.begun = (now, done)
        self.activity, self.size = activity, f"{done / 1e6:,.1f} MB" if done else ""
        if console.is_terminal:
            self.bar.update(self.task, description=activity, completed=done, total=total or None, size=self.size)
        elif now >= self.next_line:
            self.next_line = now + PLAIN_SECONDS
            console.print(self._line(now, done, total))

    def _line(self, now: float, done: int, total: int) -> str:
        """For a file."""
        since, first = self.begun
        line = f"{self.activity}: {self.size}" if self.size else self.activity
        if total > done > first:
            line += f" of {total / 1e6:,.1f} MB, {_time_left((now - since) / (done - first) * (total - done))}"
        return line

    def close(self) -> None:
        """Leave the screen to others."""
        self.bar.stop()
