"""The command line answers at once, and every command explains every setting."""

from __future__ import annotations

import dataclasses
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gpt_kit import __version__
from gpt_kit.cli import VERBS
from gpt_kit.config import RunConfig

Run = Callable[..., tuple[int, str, str]]


def test_help_takes_less_than_a_third_of_a_second() -> None:
    """Median of five processes, 0.3 s; it names every command."""
    times = []
    for _ in range(5):
        started = time.perf_counter()
        found = subprocess.run([sys.executable, "-m", "gpt_kit", "--help"], capture_output=True, text=True, check=True)
        times.append(time.perf_counter() - started)
    assert all(verb in found.stdout for verb in VERBS)
    assert statistics.median(times) < 0.3, times


def test_the_script_is_installed_and_tells_its_version() -> None:
    script = Path(sys.executable).parent / "gpt-kit"
    found = subprocess.run([str(script), "--version"], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == f"gpt-kit {__version__}"


@pytest.mark.parametrize("words", [[], ["-h"], ["--help"], ["help"]])
def test_asking_for_help_is_no_error(run: Run, words: list[str]) -> None:
    code, out, err = run(*words)
    assert (code, err) == (0, "")
    assert "usage: gpt-kit COMMAND" in out


@pytest.mark.parametrize("verb", VERBS)
def test_every_command_explains_itself(run: Run, verb: str) -> None:
    code, out, err = run(verb, "--help")
    assert (code, err) == (0, "")
    assert f"gpt-kit {verb}" in out and len(out) > 300


def test_every_setting_of_a_run_is_a_flag_with_its_help(run: Run) -> None:
    _, out, _ = run("train", "--help")
    flat = " ".join(out.replace("│", " ").split())
    for flag in ("training.learning-rate", "model.position-embedding", "data.val-fraction", "checkpoints.keep", "logging.trackers"):
        assert f"--{flag}" in flat
    for section in dataclasses.fields(RunConfig):
        for setting in dataclasses.fields(section.default_factory):
            assert f"--{section.name}.{setting.name.replace('_', '-')}" in flat or f"--{section.name}.no-" in flat, setting.name
    assert "Keep documents packed into one window from attending to each other." in flat
