"""Two processes make the run that one makes: the losses, the order of the text, the files; and a run changes hands between them."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch
from distributed_runs import FLAGS, STEPS, figures, finish, largest_difference, torchrun

from gpt_kit.cli import main
from gpt_kit.files import check_manifest, read_tensors
from gpt_kit.training import read_metrics

TOLERANCE = 1e-5
KINDS = {"ddp": ["--training.parallel=ddp"], "fsdp": ["--training.parallel=fsdp", "--training.activation-checkpointing"]}
"""Recomputed activations gather sharded weights a second time."""


def windows_read(folder: Path, ranks: int = 2) -> list[str]:
    """STEP and ids of every window, in the order of the batches: by step, then by process."""
    lines = [(int(line.split()[0]), rank, line) for rank in range(ranks) for line in (folder / str(rank)).read_text().splitlines()]
    return [line for _, _, line in sorted(lines, key=lambda item: item[:2])]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_have_the_losses_of_one(kind: str, by_one: Path, text_file: Path, tmp_path: Path) -> None:
    """Every loss, norm and validation loss of every step, with a batch of 5 that two do not divide, in micro-batches of 2.

    Losses of different batches differ a hundred times more than is allowed here; the control shows it."""
    run = tmp_path / "run"
    code, said = finish(torchrun(["--data", text_file, "--out", run, *FLAGS, *KINDS[kind]], WINDOWS=tmp_path))
    assert code == 0, said
    assert said.count(f"step {STEPS}/{STEPS}") == 2, "the main process alone speaks, of the last step and its evaluation"
    one, two = figures(by_one), figures(run)
    assert largest_difference(one, two) < TOLERANCE
    shifted = [{"loss": record["train/loss"]} for record in one if "train/loss" in record]
    assert max(abs(a["loss"] - b["loss"]) for a, b in zip(shifted, shifted[1:], strict=False)) > 100 * TOLERANCE, "the control"

    folders = [run_ / "checkpoints" / f"step-{STEPS:08d}" for run_ in (by_one, run)]
    names = [sorted(str(file.relative_to(folder)) for file in folder.rglob("*")) for folder in folders]
    assert names[0] == names[1]
    check_manifest(folders[1])
    for file in ("model.safetensors", "training_state/optimizer.safetensors"):
        whole, gathered = (read_tensors(folder / file) for folder in folders)
        assert whole.keys() == gathered.keys()
        for name in whole:
            torch.testing.assert_close(gathered[name], whole[name], atol=1e-4, rtol=1e-3, msg=lambda text, name=name: f"{name}: {text}")

    seen = windows_read(tmp_path)
    per_epoch = round(STEPS * 5 / read_metrics(run / "metrics.jsonl")[-2]["epoch"])
    assert len(seen) == STEPS * 5 > per_epoch
    assert set(Counter(line.split(" ", 1)[1] for line in seen[:per_epoch]).values()) == {1}, "each window once an epoch"


@pytest.mark.slow
def test_eight_bit_adamw_rounds_alike_in_both(text_file: Path, tmp_path: Path) -> None:
    """By the same chances, or their weights would part; a gradient that differs in its last bit may fall otherwise now and then."""
    words = ["--data", text_file, *FLAGS, "--training.optimizer=adamw8bit"]
    assert main(["train", "--out", str(tmp_path / "one"), *map(str, words)]) == 0
    code, said = finish(torchrun(["--out", tmp_path / "two", *words, *KINDS["ddp"]]))
    assert code == 0, said
    assert largest_difference(figures(tmp_path / "one"), figures(tmp_path / "two")) < 100 * TOLERANCE


@pytest.mark.slow
def test_a_run_changes_hands(by_one: Path, tmp_path: Path) -> None:
    """Steps 1-4 by one process, 5-8 by two with FSDP2, 9-12 by one again: the run that one makes alone, in exact order."""
    run = tmp_path / "run"
    shutil.copytree(by_one, run)
    steps = {step: run / "checkpoints" / f"step-{step:08d}" for step in (4, 8, STEPS)}
    code, said = finish(torchrun(["--out", run, "--resume", steps[4], *KINDS["fsdp"]], WINDOWS=tmp_path))
    assert code == 0, said
    assert "at step 4" in said
    assert {int(line.split()[0]) for line in windows_read(tmp_path)} == set(range(4, STEPS))
    transformers = pytest.importorskip("transformers")
    assert transformers.AutoModelForCausalLM.from_pretrained(steps[8]).config.n_embd == 24

    assert main(["train", "--out", str(run), "--resume", str(steps[8])]) == 0
    assert largest_difference(figures(by_one), figures(run)) < TOLERANCE
    assert figures(by_one) != figures(run), "nobody but one process was at work"
    check_manifest(steps[STEPS])
