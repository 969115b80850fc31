"""SIGTERM and SIGINT at any moment: gone within ten seconds with 143 or 130, and what is left can be gone on with.

At random moments of a run; in parts of it that take long; and while raw text is prepared.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from harness import assert_same_end, resume_words, shell_code, start, train_words
from slowness import SLOW, slow_evaluation, slow_sample, slow_save, slow_step

from gpt_kit.cli import main
from gpt_kit.files import MANIFEST

MOST_SECONDS = 10
CODES = {signal.SIGTERM: 143, signal.SIGINT: 130}


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def send(number: signal.Signals, process: BaseProcess) -> float:
    """Gives the seconds until the process is gone."""
    started = time.monotonic()
    if process.pid is not None and process.is_alive():
        os.kill(process.pid, number)
    process.join(60)
    process.kill()
    return time.monotonic() - started


@pytest.mark.slow
@pytest.mark.parametrize("number", CODES)
def test_a_signal_at_a_random_moment(number: signal.Signals, corpus: Path, uninterrupted: Callable[..., Path], tmp_path: Path) -> None:
    start(["--version"], tmp_path / "first").join()  # the first child waits for the server's imports
    rng, codes = random.Random(number), []
    for trial in range(7):
        run, log = tmp_path / f"run-{trial}", tmp_path / f"log-{trial}"
        process = start(train_words(corpus, run), log)
        wait_for(log.exists)
        time.sleep(rng.uniform(0, 1.2))
        seconds = send(number, process)
        assert seconds < MOST_SECONDS
        codes.append(shell_code(process))
        assert codes[-1] in (0, CODES[number]) and "Traceback" not in log.read_text(), log.read_text()
        if (run / "config.toml").exists():
            assert main(resume_words(run)) == 0, log.read_text()
        else:  # before the first step: the same words start it
            assert main(train_words(corpus, run)) == 0, log.read_text()
        assert_same_end(uninterrupted(), run)
    assert codes.count(CODES[number]) >= 2, "too few came in time"


@pytest.mark.slow
@pytest.mark.parametrize("number", CODES)
@pytest.mark.parametrize("slow", [slow_save, slow_evaluation, slow_sample, slow_step])
def test_a_signal_in_a_part_that_takes_long(
    slow: Callable[[], None], number: signal.Signals, corpus: Path, uninterrupted: Callable[..., Path], tmp_path: Path
) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    changes = {"evaluation__sample_tokens": 100} if slow is slow_sample else {}
    process = start(train_words(corpus, run, **changes), log, slow)
    wait_for(lambda: log.exists() and SLOW in log.read_text())
    time.sleep(0.1)
    seconds = send(number, process)
    assert shell_code(process) == CODES[number], log.read_text()
    assert "everything is saved" in log.read_text() and "Traceback" not in log.read_text()
    assert main(resume_words(run)) == 0
    if slow is not slow_sample:  # which draws other tokens
        assert_same_end(uninterrupted(**changes), run)
    assert seconds < MOST_SECONDS


@pytest.fixture(scope="module")
def raw_text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 MB: some seconds of work."""
    path = tmp_path_factory.mktemp("raw") / "long.txt"
    words = random.Random(1)
    lines = [" ".join(words.choices(["sun", "moon", "star", "rain", "snow", "wind", "tree", "leaf"], k=12)) for _ in range(5000)]
    path.write_text("\n\n".join(lines * 130))
    return path


@pytest.mark.slow
@pytest.mark.parametrize("number", CODES)
def test_a_signal_while_text_is_prepared(number: signal.Signals, raw_text: Path, tmp_path: Path) -> None:
    """By `prepare`, twice, and by `train`. The corpus that is then made is the one that would have been made."""
    whole, corpus, log = tmp_path / "whole", tmp_path / "corpus", tmp_path / "log"
    start(["--version"], log).join()
    begun = time.monotonic()
    assert main(["prepare", str(raw_text), "--out", str(whole)]) == 0
    longest = time.monotonic() - begun
    for share in (0.15, 0.3):
        process = start(["prepare", str(raw_text), "--out", str(corpus)], log)
        process.join(share * longest)
        assert send(number, process) < MOST_SECONDS
        assert shell_code(process) == CODES[number] and "Traceback" not in log.read_text(), log.read_text()
        assert not corpus.exists(), "a corpus that is not whole"
    assert main(["prepare", str(raw_text), "--out", str(corpus)]) == 0
    assert (corpus / MANIFEST).read_text() == (whole / MANIFEST).read_text()

    run = tmp_path / "run"
    process = start(train_words(raw_text, run, data__tokenizer="gpt2"), log)
    process.join(0.3 * longest)
    assert send(number, process) < MOST_SECONDS
    assert shell_code(process) == CODES[number] and "Traceback" not in log.read_text(), log.read_text()
    assert not (run / "corpus").exists()
