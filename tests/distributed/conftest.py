"""The text of all runs here, and the run as one process makes it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from distributed_runs import FLAGS

from gpt_kit.cli import main


@pytest.fixture(autouse=True)
def logs_of_torchrun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As by --log-dir: it makes a folder for each start, and would leave it in the system's."""
    monkeypatch.setenv("PET_LOG_DIR", str(tmp_path / "torchrun"))


@pytest.fixture(scope="session")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1,000 characters: 12 batches of 5 windows are more than one epoch."""
    rng = random.Random(0)
    words = ["the", "a", "cat", "dog", "sat", "ran", "on", "under", "mat", "tree", "and", "then", "it", "saw", "was", "big"]
    path = tmp_path_factory.mktemp("text") / "story.txt"
    path.write_text(" ".join(rng.choices(words, k=300))[:1000], encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def by_one(text_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run as one process makes it."""
    run = tmp_path_factory.mktemp("by_one") / "run"
    assert main(["train", "--data", str(text_file), "--out", str(run), *FLAGS]) == 0
    return run
