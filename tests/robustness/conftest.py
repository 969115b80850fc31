"""The corpus of all these runs, and runs that nobody interrupted to compare with."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import make_corpus, train_words

from gpt_kit.cli import main


@pytest.fixture(scope="session", autouse=True)
def nothing_waits_for_the_disk() -> Iterator[None]:
    """As in the child processes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="session")
def uninterrupted(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The finished run with these changes of settings, made once."""
    folder = tmp_path_factory.mktemp("whole")
    made: dict[str, Path] = {}

    def run(**changes: object) -> Path:
        key = repr(sorted(changes.items()))
        if key not in made:
            made[key] = folder / f"run-{len(made)}"
            assert main(train_words(corpus, made[key], **changes)) == 0
        return made[key]

    return run
