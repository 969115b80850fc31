"""A batch that is too large for the memory: one line says which part of it fits, and the run goes on with that to the same result."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from harness import resume_words, shell_code, start, train_words
from shortage import ROOM, limit_memory

from gpt_kit.cli import main
from gpt_kit.config import load_run_config
from gpt_kit.training import read_metrics

LARGE = {
    "model__n_embd": 96, "training__batch_size": 2048, "training__micro_batch_size": 2048, "training__max_steps": 3,
    "model__residual_dropout": 0, "model__embedding_dropout": 0, "model__attention_dropout": 0,
    "evaluation__interval": 1000, "evaluation__sample_tokens": 0,
}  # fmt: skip


def losses(run: Path) -> list[float]:
    return [record["train/loss"] for record in read_metrics(run / "metrics.jsonl") if "train/loss" in record]


@pytest.fixture(scope="module")
def plentiful(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """The losses with memory for everything."""
    run = tmp_path_factory.mktemp("plentiful") / "run"
    assert main(train_words(corpus, run, **LARGE)) == 0
    return losses(run)


@pytest.mark.slow
def test_a_micro_batch_that_fits_is_named_and_gives_the_same_losses(corpus: Path, plentiful: list[float], tmp_path: Path) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    process = start(train_words(corpus, run, **LARGE), log, limit_memory)
    process.join(120)
    text = log.read_text()
    assert shell_code(process) == 1, text
    found = re.search(r"out of memory in step 1, with a micro-batch of 2048 windows; (\d+) would fit, .*--micro-batch (\d+)", text)
    assert found and found[1] == found[2] and 1 <= int(found[1]) < 2048, text
    assert len([line for line in text.splitlines() if "gpt-kit:" in line]) == 1 and "Traceback" not in text
    process = start([*resume_words(run), "--micro-batch", found[1]], log, limit_memory)
    process.join(120)
    assert shell_code(process) == 0, log.read_text()
    assert losses(run) == pytest.approx(plentiful, abs=1e-4)


def test_auto_counts_what_fits_and_gives_the_same_losses(
    corpus: Path, plentiful: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpt_kit.training.fitting.free_memory", lambda _: ROOM)
    run = tmp_path / "run"
    assert main([*train_words(corpus, run, **LARGE), "--micro-batch", "auto"]) == 0
    rows = load_run_config(run / "config.toml").training.micro_batch_size
    assert isinstance(rows, int) and 1 < rows < 2048
    assert losses(run) == pytest.approx(plentiful, abs=1e-4)


def test_resuming_keeps_the_number_that_auto_found(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With twice the memory free, and the words of the start said again: other micro-batches would draw other dropout."""
    run, settings = tmp_path / "run", LARGE | {"training__max_steps": 1, "training__batch_size": 256}
    words = [*train_words(corpus, run, **settings), "--micro-batch", "auto", "--resume", "auto"]
    found = []
    for room, steps in ((ROOM // 8, "1"), (ROOM // 4, "2")):
        monkeypatch.setattr("gpt_kit.training.fitting.free_memory", lambda _, room=room: room)
        assert main([*words, "--training.max-steps", steps]) == 0
        found.append(load_run_config(run / "config.toml").training.micro_batch_size)
    assert found[0] == found[1] and 1 < found[0] < 128


def test_auto_says_so_where_not_even_one_window_fits(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("gpt_kit.training.fitting.free_memory", lambda _: 10_000)
    assert main([*train_words(corpus, tmp_path / "run", **LARGE), "--micro-batch=auto"]) == 2
    assert "not even a micro-batch of one window fits" in capsys.readouterr().err


def test_a_model_that_is_not_finite_stops_saved_and_in_words(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The learning rate is absurd; an evaluation with a sample comes before the last of the skipped updates that are allowed."""
    run = tmp_path / "run"
    absurd = {"training__learning_rate": 1e30, "training__warmup_steps": 1, "evaluation__interval": 4, "evaluation__sample_tokens": 5}
    assert main(train_words(corpus, run, **absurd)) == 1
    assert "was not finite 5 times in a row" in capsys.readouterr().err
    assert (run / "checkpoints" / "last").exists()
