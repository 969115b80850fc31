"""What a run says while it runs: one live line that fits its terminal, and an answer to Ctrl-C."""

from __future__ import annotations

import io
import os
import signal
from types import SimpleNamespace

import pytest
from rich.console import Console

from gpt_kit.cli import display
from gpt_kit.runtime import StopRequest


def live_lines(width: int, activity: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    terminal = Console(width=width, force_terminal=True, color_system=None, file=io.StringIO())
    monkeypatch.setattr(display, "console", terminal)
    live = display.LiveDisplay(0, 5000)
    live.started -= 200
    live.record({"step": 1234, "train/loss": 2.1234, "val/loss": 10.25, "tokens_per_second": 123456.7})
    live.progress(1234, activity)
    live.close()
    with terminal.capture() as captured:
        terminal.print(live.progress_bar.get_renderable())
    return captured.get().splitlines()


@pytest.mark.parametrize(
    ("width", "activity", "said"),
    [
        (60, "training", "1234/5000 loss 2.123 · val 10.250 10:10 left"),
        (60, "validating 45 %", "1234/5000 loss 2.123 10:10 left"),
        (80, "training", "1234/5000 loss 2.123 · val 10.250 · 123,457 tokens/s 10:10 left"),
        (140, "validating 45 %", "1234/5000 loss 2.123 · val 10.250 · 123,457 tokens/s 10:10 left"),
    ],
)
def test_the_live_line_is_one_line_with_whole_figures(width: int, activity: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Narrow terminals lose the speed, then the validation loss; no figure is cut and nothing wraps."""
    (line,) = live_lines(width, activity, monkeypatch)
    assert len(line.rstrip()) <= width
    assert line.startswith(activity) and line.rstrip().endswith(said)


def test_the_bar_grows_with_the_terminal_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    widths = [len(live_lines(width, "training", monkeypatch)[0].rstrip()) for width in (80, 90, 120, 200)]
    assert widths[0] < widths[1] < widths[2] == widths[3]


def test_preparing_tells_a_file_now_and_then_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line every ten seconds: what is done, and the time left by the speed of this activity; a terminal has its bar instead."""
    clock = [0.0]
    monkeypatch.setattr(display, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    for is_terminal in (False, True):
        console, clock = Console(width=80, force_terminal=is_terminal, color_system=None, file=io.StringIO()), [0.0]
        monkeypatch.setattr(display, "console", console)
        progress = display.PrepareDisplay()
        for clock[0], activity, done, total in [
            (1.0, "reading", 3_000_000, 0),
            (11.0, "reading", 30_000_000, 0),
            (12.0, "training the tokenizer", 0, 0),
            (30.0, "encoding", 1_000_000, 1_500_000_000),
            (35.0, "encoding", 301_000_000, 1_500_000_000),
            (40.0, "encoding", 501_000_000, 1_501_000_000),
            (41.0, "comparing", 1_500_000_000, 1_500_000_000),
        ]:
            progress(activity, done, total)
        lines = console.file.getvalue().splitlines()
        assert lines == ([] if is_terminal else ["reading: 30.0 MB", "encoding: 1.0 MB", "encoding: 501.0 MB of 1,501.0 MB, 0:20 left"])


def test_the_first_signal_is_answered_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    with StopRequest() as stop:
        assert capfd.readouterr().err == ""
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop
    assert capfd.readouterr().err == "saving, then stopping; once more to stop at once\n"


def test_a_closed_stderr_does_not_disturb_the_request() -> None:
    kept = os.dup(2)
    os.close(2)
    try:
        with StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGINT)
            assert stop.signal_number == signal.SIGINT
    finally:
        os.dup2(kept, 2)
        os.close(kept)
