"""A tiny text, settings that train on it in a second, one finished run, and the command line called in this process."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from gpt_kit.cli import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="session")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """6,000 characters of made-up sentences: one document, 30-odd different characters."""
    rng = random.Random(0)
    words = ["the", "a", "cat", "dog", "sat", "ran", "on", "under", "mat", "tree", "and", "then", "it", "saw", "was", "big"]
    lines = [" ".join(rng.choices(words, k=8)) + rng.choice(".!?") for _ in range(190)]
    path = tmp_path_factory.mktemp("text") / "story.txt"
    path.write_text("\n".join(lines)[:6000], encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def tiny_flags() -> list[str]:
    """C=24, H=3, L=2, T=16, five windows a batch in micro-batches of two."""
    settings = {
        "data.tokenizer": "char", "model.n-layer": 2, "model.n-embd": 24, "model.n-head": 3, "model.max-position-embeddings": 16,
        "training.max-steps": 12, "training.batch-size": 5, "training.micro-batch-size": 2, "training.warmup-steps": 3,
        "training.learning-rate": 0.01, "training.precision": "float32", "training.device": "cpu",
        "evaluation.interval": 4, "evaluation.sample-tokens": 5, "checkpoints.interval": 4, "logging.interval": 1,
    }  # fmt: skip
    return [word for name, value in settings.items() for word in (f"--{name}", str(value))]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Call the command line; gives (exit code, stdout, stderr)."""

    def call(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture(scope="session")
def finished_run(text_file: Path, tiny_flags: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 12 steps, for tests that only read it."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    assert main(["train", "--data", str(text_file), "--out", str(folder), *tiny_flags]) == 0
    return folder
