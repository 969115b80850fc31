"""One folder, one trainer: a second one is refused by whatever path it comes, and a lock file without an owner is no obstacle."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import assert_same_end, resume_words, shell_code, start, train_words
from slowness import SLOW, slow_step

from gpt_kit.cli import main


@pytest.fixture
def busy(corpus: Path, tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """The folder of a run that is in its first step, and its trainer's process."""
    run, log = tmp_path / "run", tmp_path / "log"
    process = start(train_words(corpus, run), log, slow_step)
    while not (log.exists() and SLOW in log.read_text()):
        assert process.is_alive(), log.read_text()
        time.sleep(0.01)
    assert process.pid is not None
    yield run, process.pid
    process.kill()
    process.join()


@pytest.mark.parametrize("resuming", [False, True])
@pytest.mark.parametrize("path", ["as it is", "relative", "through a link", "with dots"])
def test_a_second_trainer_is_refused(
    path: str,
    resuming: bool,
    busy: tuple[Path, int],
    corpus: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, owner = busy
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    monkeypatch.chdir(run.parent)
    (run.parent / "link").symlink_to(run)
    other = {"as it is": run, "relative": Path("run"), "through a link": Path("link"), "with dots": run / ".." / "run"}[path]
    capsys.readouterr()
    assert main(resume_words(other) if resuming else train_words(corpus, other)) == 2
    err = capsys.readouterr().err
    assert f"another run (process {owner} on {platform.node()}) is writing into this folder" in err and "--out" in err
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == before, "the refused one changed something"


def test_a_second_process_is_refused(busy: tuple[Path, int], tmp_path: Path) -> None:
    second = start(resume_words(busy[0]), tmp_path / "second")
    second.join(60)
    assert shell_code(second) == 2
    assert "is writing into this folder" in (tmp_path / "second").read_text()


@pytest.mark.parametrize("content", ["", "1", "999999999", "not a number"])
def test_a_stale_lock_is_no_obstacle(content: str, corpus: Path, tmp_path: Path) -> None:
    """Left by a run that was killed: the lock itself ended with its process, whatever the file says."""
    run = tmp_path / "run"
    assert main(train_words(corpus, run, training__max_steps=5)) == 0
    (run / ".lock").write_text(content)
    assert main([*resume_words(run), "--training.max-steps", "6"]) == 0
    assert (run / ".lock").read_text().startswith(f"{os.getpid()} on ")


def test_a_killed_trainer_leaves_its_folder_free(busy: tuple[Path, int], uninterrupted: Callable[..., Path]) -> None:
    run, owner = busy
    os.kill(owner, 9)
    deadline = time.monotonic() + 10
    while (code := main(resume_words(run))) == 2 and time.monotonic() < deadline:
        time.sleep(0.05)  # the system is still taking the process away
    assert code == 0
    assert_same_end(uninterrupted(), run)
