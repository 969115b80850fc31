"""A process that is lost, hangs, is told to stop, or means another run: the others never wait for ever, and the run goes on."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
from distributed_runs import FLAGS, NO_DROPOUT, SETTINGS, STEPS, figures, finish, largest_difference, torchrun, two_processes

from gpt_kit.cli import main
from gpt_kit.files import check_manifest
from gpt_kit.training import points_of, read_metrics

WITH_DROPOUT = [word for word in FLAGS if word not in NO_DROPOUT]


@pytest.mark.slow
def test_a_killed_process_is_brought_back_and_the_run_ends_as_if_nothing_had_happened(text_file: Path, tmp_path: Path) -> None:
    """kill -9 of process 1 at step 7: torchrun starts both again, from the checkpoint of step 4, and every bit is the same."""
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    words = ["--data", text_file, "--resume", "auto", *WITH_DROPOUT, "--out"]
    code, said = finish(torchrun([*words, killed], restarts=2, ACCIDENT="kill:1:7"))
    assert code == 0, said
    assert "Signal 9" in said or "exitcode: -9" in said, "nobody was killed"
    assert f"resumed from {killed}/checkpoints/step-00000004 at step 4" in said
    code, said = finish(torchrun([*words, whole]))
    assert code == 0, said
    assert figures(killed) == figures(whole)
    for name in ("model.safetensors", "training_state/optimizer.safetensors", "training_state/random.safetensors"):
        files = [run / "checkpoints" / f"step-{STEPS:08d}" / name for run in (killed, whole)]
        assert files[0].read_bytes() == files[1].read_bytes(), name


@pytest.mark.slow
@pytest.mark.parametrize("accident", ["kill", "hang"])
def test_nobody_waits_for_ever(accident: str, text_file: Path, tmp_path: Path) -> None:
    """With nobody to end it, the process that is left leaves by itself, with what was saved intact."""
    limit = 5
    words = ["--data", text_file, "--out", tmp_path / "run", *FLAGS, f"--training.rank-timeout-seconds={limit}"]
    left, lost = two_processes(words, ACCIDENT=f"{accident}:1:7")
    try:
        code, said = finish(left, seconds=60)
        assert code == 1
        assert "rank 0 lost contact with another process of this run" in said
        assert f"within {limit} s (--training.rank-timeout-seconds)" in said and "--resume auto" in said
        assert "Traceback" not in said
        records = points_of(read_metrics(tmp_path / "run" / "metrics.jsonl"), "train/loss")
        assert len(records) == 7, "it was not in the middle"
        check_manifest(tmp_path / "run" / "checkpoints" / "step-00000004")
        assert lost.poll() == (-signal.SIGKILL if accident == "kill" else None)
    finally:
        lost.kill()
        finish(lost)


@pytest.mark.slow
def test_a_signal_to_torchrun_saves_and_stops_all(by_one: Path, text_file: Path, tmp_path: Path) -> None:
    """SIGTERM in the middle: both stop at the same step, it is saved once, and one process finishes the run."""
    run = tmp_path / "run"
    process = torchrun(["--data", text_file, "--out", run, *FLAGS], SECONDS_PER_STEP=0.4)
    deadline = time.monotonic() + 60
    while len(points_of(read_metrics(run / "metrics.jsonl"), "train/loss")) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    started = time.monotonic()
    code, said = finish(process, seconds=30)
    assert time.monotonic() - started < 10
    assert code != 0 and "everything is saved" in said
    step = int((run / "checkpoints" / "last").read_text().strip().removeprefix("step-"))
    assert 2 <= step < STEPS, "it was not in the middle"
    assert step % SETTINGS["checkpoints.interval"], "it would have been saved anyway"  # type: ignore[operator]
    assert said.count(f"stopped by signal 15 after step {step} of {STEPS}") == 2
    check_manifest(run / "checkpoints" / f"step-{step:08d}")
    assert main(["train", "--out", str(run), "--resume", "auto"]) == 0
    assert largest_difference(figures(by_one), figures(run)) < 1e-5


def test_other_settings_are_named_at_the_start(text_file: Path, tmp_path: Path) -> None:
    """By both processes, with who says what; agreement is what every other test here starts with."""
    words = ["--data", text_file, "--out", tmp_path / "run", *FLAGS]
    other = "--training.learning-rate=0.02 --model.n-layer=3"
    ended = [finish(process) for process in two_processes(words, WORDS_OF_RANK_1=other)]
    for code, said in ended:
        assert code == 2, said
        assert "training.learning_rate (0.01 on rank 0, 0.02 on rank 1)" in said
        assert "model.n_layer (2 on rank 0, 3 on rank 1)" in said
        assert "batch_size" not in said and "Traceback" not in said
    assert not (tmp_path / "run").exists()


def test_another_text_is_named_at_the_start(text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same path, but in two folders: by what the corpora hold, the processes see that they differ."""
    for name in ("here", "there"):
        source = tmp_path / f"{name}.txt"
        source.write_text(text_file.read_text() + name)
        assert main(["prepare", str(source), "--tokenizer", "char", "--out", str(tmp_path / name / "corpus")]) == 0
    words = ["--data", "corpus", "--out", tmp_path / "run", *FLAGS[1:]]
    monkeypatch.chdir(tmp_path / "here")
    processes = two_processes(words, FOLDER_OF_RANK_1=tmp_path / "there")
    for code, said in [finish(process) for process in processes]:
        assert code == 2, said
        assert "the 2 processes of this run disagree about text (" in said
