"""A compiled run is the same run: same names on disk, same losses up to rounding, samples and evaluations included."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors import safe_open

from gpt_kit.runtime import can_compile, without_compiling
from gpt_kit.training import points_of, read_metrics

Run = Callable[..., tuple[int, str, str]]


@pytest.mark.slow
@pytest.mark.skipif(not can_compile(), reason="needs a C++ compiler")
@pytest.mark.filterwarnings("ignore")  # torch's compiler warns about itself
def test_compiling_changes_neither_names_nor_losses(run: Run, tmp_path: Path, text_file: Path, tiny_flags: list[str]) -> None:
    losses, names = {}, {}
    no_dropout = [f"--model.{kind}-dropout=0" for kind in ("embedding", "attention", "residual")]  # the compiler draws other numbers
    for compile_setting in ("off", "on"):
        out = tmp_path / compile_setting
        words = ["--training.compile", compile_setting, "--training.micro-batch-size", "0", "--evaluation.sample-tokens", "30"]
        code, _, err = run("train", "--data", text_file, "--out", out, *tiny_flags, *words, *no_dropout)
        assert code == 0, err
        records = read_metrics(out / "metrics.jsonl")
        losses[compile_setting] = points_of(records, "train/loss") + points_of(records, "val/loss")
        with safe_open(out / "checkpoints" / "step-00000012" / "model.safetensors", framework="pt") as file:
            names[compile_setting] = set(file.keys())
    assert names["on"] == names["off"]
    assert [step for step, _ in losses["on"]] == [step for step, _ in losses["off"]]
    assert losses["on"] != losses["off"], "nothing was compiled"
    for (_, compiled), (_, written) in zip(losses["on"], losses["off"], strict=True):
        assert compiled == pytest.approx(written, abs=0.02)


def test_doing_without_the_compiler_does_not_import_it() -> None:
    loaded = "torch._dynamo" in sys.modules
    with without_compiling():
        assert ("torch._dynamo" in sys.modules) == loaded


def test_without_a_compiler_a_run_says_so_at_the_start(
    run: Run, tmp_path: Path, text_file: Path, tiny_flags: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    code, _, err = run("train", "--data", text_file, "--out", tmp_path / "run", *tiny_flags, "--training.compile", "on")
    assert code == 2 and "compiling needs a C++ compiler" in err
