"""`gpt-kit doctor`: a line for each check, what to do below one that fails, and exit code 1."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gpt_kit.doctor import machine

Run = Callable[..., tuple[int, str, str]]


def test_without_a_model_small_ones_of_each_family_are_checked(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(machine, "_seconds_of_product", lambda *_: 0.01)
    code, out, err = run("doctor")
    assert (code, err) == (0, "")
    assert out.count("✓") == 12 + 3 * 7 and "✗" not in out
    assert "all 33 checks passed" in out


def test_a_run_and_its_text_are_checked(run: Run, finished_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_seconds_of_product", lambda *_: 0.01)
    code, out, _ = run("doctor", finished_run, "--data", finished_run / "corpus")
    marks = {line[2:46].strip(): line[0] for line in out.splitlines() if line[:1] in "✓✗"}
    assert marks.pop("long enough") == "✗", "600 characters are few to validate on"
    assert code == 1 and set(marks.values()) == {"✓"} and len(marks) == 12 + 2 + 7 + 6


def test_a_failure_says_what_to_do_and_gives_exit_code_1(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "free_memory", lambda _: 1000)
    code, out, err = run("doctor")
    lines = out.splitlines()
    (cross,) = (number for number, line in enumerate(lines) if line.startswith("✗ free memory"))
    assert lines[cross + 1].startswith("  → end other programs")
    assert code == 1 and "1 of 33 checks failed" in err


def test_a_model_that_is_not_there_is_a_request_that_cannot_be_met(run: Run) -> None:
    code, _, err = run("doctor", "runs/nothing")
    assert code == 2 and "there is no such folder" in err


def test_a_text_that_is_not_there_is_said_once_and_at_once(run: Run) -> None:
    code, out, err = run("doctor", "--data", "nothere")
    assert (code, out) == (2, "") and err.count("\n") == 1
    assert "--data nothere: no prepared corpus (corpus.json is missing)" in err
