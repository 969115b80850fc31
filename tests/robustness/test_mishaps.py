"""Whatever else goes wrong around a run: what was learned is saved, what somebody put beside it stays, and the end is told in words."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness import assert_same_end, figures, resume_words, train_words

from gpt_kit import files
from gpt_kit.cli import main
from gpt_kit.cli.display import LiveDisplay
from gpt_kit.data import TrainingBatches
from gpt_kit.errors import DiskFullError
from gpt_kit.locate import step_folders

Whole = Callable[..., Path]
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def fail_at(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, number: int, error: BaseException) -> None:
    """The `number`-th call of `owner.name` raises."""
    original, calls = getattr(owner, name), []

    def failing(*arguments: Any, **named: Any) -> Any:
        calls.append(name)
        if len(calls) == number:
            raise error
        return original(*arguments, **named)

    monkeypatch.setattr(owner, name, failing)


@pytest.mark.parametrize("error", [RuntimeError("something nobody thought of"), BrokenPipeError()], ids=["unknown", "reader gone"])
def test_any_error_saves_first(
    error: Exception, corpus: Path, uninterrupted: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        fail_at(patch, TrainingBatches, "batch", 8, error)
        patch.setattr("sys.stderr", io.StringIO())  # which a broken pipe closes
        assert main(train_words(corpus, tmp_path / "run")) == 1
    assert step_folders(tmp_path / "run")[0].name == "step-00000007"
    assert main(resume_words(tmp_path / "run")) == 0
    assert_same_end(uninterrupted(), tmp_path / "run")


def test_output_to_a_full_disk_does_not_end_the_run(
    corpus: Path, uninterrupted: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: object) -> None:
        raise FULL

    monkeypatch.setattr(LiveDisplay, "record", no_room)
    assert main(train_words(corpus, tmp_path / "run")) == 0
    assert_same_end(uninterrupted(), tmp_path / "run")


def test_a_closed_terminal_saves(corpus: Path, uninterrupted: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, batch = tmp_path / "run", TrainingBatches.batch

    def hang_up(self: TrainingBatches, number: int, *share: int) -> Any:
        if number == 6:
            os.kill(os.getpid(), signal.SIGHUP)
        return batch(self, number, *share)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingBatches, "batch", hang_up)
        assert main(train_words(corpus, run)) == 129
    assert main(resume_words(run)) == 0
    assert_same_end(uninterrupted(), run)


def test_a_sample_without_room_costs_no_checkpoint(
    corpus: Path, uninterrupted: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: object) -> None:
        raise DiskFullError("no room for a sample")

    monkeypatch.setattr("gpt_kit.training.trainer.write_sample", no_room)
    assert main([*train_words(corpus, tmp_path / "run"), "--checkpoints.on-full-disk", "stop"]) == 0
    assert figures(tmp_path / "run") == figures(uninterrupted())


def test_a_curve_without_room_does_not_hide_how_the_run_ended(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_room(*_: object) -> None:
        raise FULL

    monkeypatch.setattr("gpt_kit.cli.runs.draw_loss_png", no_room)
    fail_at(monkeypatch, TrainingBatches, "batch", 8, RuntimeError("the real cause"))
    assert main(train_words(corpus, tmp_path / "run")) == 1
    assert "the real cause" in capsys.readouterr().err


def test_going_on_from_another_runs_checkpoint_never_leaves_a_run_without_one(
    corpus: Path, uninterrupted: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ended before its first step, the new run has that checkpoint as its own; also where later ones of its own are set aside."""
    theirs = step_folders(uninterrupted())[-1]
    runs = [tmp_path / "new", tmp_path / "old"]
    shutil.copytree(uninterrupted(), runs[1])
    shutil.rmtree(step_folders(runs[1])[-1])
    for run in runs:
        with monkeypatch.context() as patch:
            fail_at(patch, TrainingBatches, "batch", 1, RuntimeError("before the first step"))
            assert main([*train_words(corpus, run), "--config", str(uninterrupted() / "config.toml"), "--resume", str(theirs)]) == 1
        assert step_folders(run) == [run / "checkpoints" / theirs.name]
        assert main(resume_words(run)) == 0
        assert step_folders(run)[0].name == step_folders(uninterrupted())[0].name


def test_samples_that_somebody_wrote_into_are_kept_and_hinder_nothing(corpus: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert main(train_words(corpus, run, training__max_steps=8)) == 0
    samples = run / "samples.md"
    samples.write_bytes(b"# my notes\n\n" + samples.read_bytes() + "## step 9, …".encode()[:-1])
    assert main([*resume_words(run), "--training.max-steps", "12"]) == 0
    text = samples.read_text(encoding="utf-8")
    assert text.startswith("# my notes\n\n## step 4, ") and "## step 12, " in text and "step 9" not in text


def test_what_somebody_put_beside_the_checkpoints_stays(corpus: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert main(train_words(corpus, run, training__max_steps=8)) == 0
    kept = [run / "checkpoints" / name for name in ("step-00000005-keep", "step-best", "step-00000001.tar")]
    shutil.copytree(run / "checkpoints" / "step-00000008", kept[0])
    kept[1].mkdir()
    kept[2].write_text("an archive")
    assert main([*resume_words(run), "--training.max-steps", "22"]) == 0
    assert all(path.exists() for path in kept)


def test_a_checkpoint_that_cannot_be_read_gives_way_to_an_older_one(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main(train_words(corpus, run, training__max_steps=10)) == 0
    newest, older = step_folders(run)[:2]
    hash_of = files.sha256_of_file

    def broken(path: Path) -> str:
        if newest in path.parents:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return hash_of(path)

    monkeypatch.setattr(files, "sha256_of_file", broken)
    assert main([*resume_words(run), "--training.max-steps", "11"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "cannot be read" in said and f"{older.name} is the newest sound checkpoint" in said


def test_a_validation_loss_that_is_no_number_is_said_at_the_end(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    absurd = {"training__learning_rate": 1e30, "training__warmup_steps": 0, "training__max_steps": 3}
    assert main(train_words(corpus, tmp_path / "run", **absurd)) == 0
    assert "validation loss: not finite at step 3 (best not finite)" in capsys.readouterr().out


def test_a_quota_is_a_full_disk() -> None:
    assert files.is_disk_full(RuntimeError("Error while serializing: I/O error: Disk quota exceeded (os error 122)"))
    assert files.is_disk_full(RuntimeError("No space left on device (os error 28)"))
    assert not files.is_disk_full(RuntimeError("something else"))


def test_a_disk_that_cannot_lock_is_named(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def cannot(*_: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", cannot)
    assert main(train_words(corpus, tmp_path / "run")) == 2
    assert "this disk cannot lock files" in capsys.readouterr().err


def test_a_run_is_no_checkpoint(corpus: Path, uninterrupted: Whole, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = uninterrupted()
    assert main([*train_words(corpus, tmp_path / "run"), "--config", str(run / "config.toml"), "--resume", str(run)]) == 2
    assert "this is a run; name one of its checkpoints" in capsys.readouterr().err
