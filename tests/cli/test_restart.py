"""A run that is stopped or killed and resumed ends bit for bit where an uninterrupted one ends.

With everything on that could tell them apart: dropout, micro-batches, evaluation and samples in between, a schedule, AdamW in 32 or
8 bits or Muon, and for one of them the loss scale of fp16.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gpt_kit.cli import main
from gpt_kit.files import check_manifest
from gpt_kit.training import points_of, read_metrics

STEPS = 70
SETTINGS = {
    "data.tokenizer": "char", "model.n-layer": 3, "model.n-embd": 48, "model.n-head": 4, "model.max-position-embeddings": 32,
    "training.max-steps": STEPS, "training.batch-size": 7, "training.micro-batch-size": 3, "training.warmup-steps": 5,
    "training.device": "cpu", "evaluation.interval": 9, "evaluation.sample-tokens": 4, "checkpoints.interval": 5, "logging.interval": 1,
}  # fmt: skip
FLAGS = [word for name, value in SETTINGS.items() for word in (f"--{name}", str(value))]
EIGHT_BIT = ["--training.optimizer", "adamw8bit", "--training.precision", "bf16", "--training.micro-batch-size", "0"]
CASES = {
    "SIGTERM": (signal.SIGTERM, 143, ["--training.precision", "float32"]),
    "SIGINT": (signal.SIGINT, 130, ["--training.precision", "bf16", "--training.optimizer", "muon"]),
    "SIGKILL": (signal.SIGKILL, -9, ["--training.precision", "fp16", "--model.position-embedding", "rotary", "--data.windows", "random"]),
    "SIGKILL, 8 bits": (signal.SIGKILL, -9, EIGHT_BIT),
}


def stop_in_the_middle(command: list[str], run: Path, number: signal.Signals) -> tuple[int, str]:
    """Start the run as a process, let it make at least 13 steps, send the signal; gives exit code and stderr."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            if len(points_of(read_metrics(run / "metrics.jsonl"), "train/loss")) >= 13:
                break
            time.sleep(0.005)
        process.send_signal(number)
        _, err = process.communicate(timeout=120)
    return process.returncode, err


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_stopped_run_ends_where_an_uninterrupted_one_ends(case: str, text_file: Path, tmp_path: Path) -> None:
    number, exit_code, changes = CASES[case]
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    words = ["train", "--data", str(text_file), *FLAGS, *changes, "--out"]

    found, err = stop_in_the_middle([sys.executable, "-m", "gpt_kit", *words, str(stopped)], stopped, number)
    assert found == exit_code, err
    reached = read_metrics(stopped / "metrics.jsonl")[-1]["step"]
    assert 13 <= reached < STEPS, "it was not in the middle"
    if number != signal.SIGKILL:
        cause = "Ctrl-C" if number == signal.SIGINT else "signal 15"
        assert re.search(rf"stopped by {cause} after step \d+ of {STEPS}; everything is saved", err)
        assert f"gpt-kit train --out {stopped} --resume auto" in err
        assert "Traceback" not in err
        last = (stopped / "checkpoints" / "last").read_text().strip()
        assert int(last.removeprefix("step-")) >= reached, "the last step was not saved"
    assert main(["train", "--out", str(stopped), "--resume", "auto"]) == 0
    assert main([*words, str(whole)]) == 0

    curves = []
    for run in (whole, stopped):
        records = read_metrics(run / "metrics.jsonl")
        names = ("train/loss", "val/loss", "val/whole_loss", "learning_rate", "grad_norm", "tokens_seen", "epoch")
        curves.append({name: points_of(records, name) for name in names})
    assert len(curves[0]["train/loss"]) == STEPS and len(curves[0]["val/loss"]) == 8
    for name, points in curves[0].items():
        assert curves[1][name] == points, f"{name} differs"
    for pointer in ("last", "best"):
        folders = [run / "checkpoints" / (run / "checkpoints" / pointer).read_text().strip() for run in (whole, stopped)]
        assert folders[0].name == folders[1].name, pointer
        for folder in folders:
            check_manifest(folder)
        for name in ("model.safetensors", "training_state/optimizer.safetensors", "training_state/random.safetensors"):
            assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes(), f"{pointer}: {name} differs"
    assert not list((stopped / "checkpoints").glob(".incomplete-*"))


@pytest.mark.slow
def test_a_second_signal_ends_the_process_at_once(text_file: Path, tmp_path: Path) -> None:
    """And leaves a run that can be resumed: what was saved before is whole."""
    run = tmp_path / "run"
    command = [sys.executable, "-m", "gpt_kit", "train", "--data", str(text_file), *FLAGS, "--out", str(run)]
    # A stop request is only looked at between steps; a step that never ends is what a second signal is for.
    code = (
        "import sys, time, gpt_kit.training.trainer as t\n"
        "step = t.optimizer_step\n"
        "def stuck(model, *a, **k):\n"
        "    if stuck.calls == 8: print('stuck', flush=True); time.sleep(600)\n"
        "    stuck.calls += 1\n"
        "    return step(model, *a, **k)\n"
        "stuck.calls = 0\n"
        "t.optimizer_step = stuck\n"
        "from gpt_kit.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, *command[3:]], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert any(line == "stuck\n" for line in process.stdout)
        process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == -signal.SIGTERM
    check_manifest(run / "checkpoints" / "step-00000005")
