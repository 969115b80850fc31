"""A run that is stopped at any point and resumed ends bit for bit where one that never stopped ends.

Each stop is a real signal, raised from inside the call that the point names. Three kinds of run: AdamW in float32, Muon in bf16 and
AdamW in fp16 with random windows, whose loss scale is still searched for while it is stopped.
"""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
from harness import STEPS, STEPS_PER_EPOCH, assert_same_end, resume_words, train_words

from gpt_kit.cli import main
from gpt_kit.data import TrainingBatches, open_corpus
from gpt_kit.files import MANIFEST
from gpt_kit.generation import Sampling
from gpt_kit.model import GPTModel
from gpt_kit.training import MetricsFile, Optimizers

KINDS: dict[str, dict[str, object]] = {
    "adamw-float32": {},
    "muon-bf16": {"training__optimizer": "muon", "training__precision": "bf16"},
    "adamw-fp16": {"training__precision": "fp16", "data__windows": "random"},
}


@dataclass(frozen=True)
class StopPoint:
    """The signal comes in the `number`-th call of `owner.name` that `counts`, before or `after` the call does its work."""

    owner: Any
    name: str
    number: int
    counts: Callable[..., bool] = lambda *_, **__: True
    after: bool = False
    exit_code: int = 143
    """0 where nothing was left to do."""


def in_training(model: GPTModel, *_: object, **__: object) -> bool:
    return model.training


def in_evaluation(model: GPTModel, *_: object, **__: object) -> bool:
    return not model.training


def of_evaluation(_: object, record: dict[str, object]) -> bool:
    return "val/loss" in record


def of_a_whole_checkpoint(path: Path, *_: object, **__: object) -> bool:
    return (Path(path) / MANIFEST).is_file()


def of_the_last_step(_: object, path: Path, *__: object, **___: object) -> bool:
    return f"step-{STEPS:08d}" in str(path)


# Evaluations read 3 batches (the last one 6 more), after steps 4, 8, 12, 16, 20 and 22; a save writes 3 files of tensors.
POINTS = {
    "after the first step": StopPoint(Optimizers, "step", 1, after=True),
    "in mid-epoch": StopPoint(TrainingBatches, "batch", 6),
    "at the border of an epoch": StopPoint(Optimizers, "step", STEPS_PER_EPOCH, after=True),
    "in the middle of accumulation": StopPoint(GPTModel, "loss_sum", 13 * 3 + 2, in_training),
    "right before an evaluation": StopPoint(Optimizers, "step", 12, after=True),
    "in an evaluation": StopPoint(GPTModel, "loss_sum", 3 + 2, in_evaluation),
    "in a sample": StopPoint(Sampling, "scores", 3),
    "right after an evaluation": StopPoint(MetricsFile, "record", 2, of_evaluation, after=True),
    "in a save": StopPoint(safetensors.torch, "save_file", 3 + 2),
    "in the deletion of an old checkpoint": StopPoint(shutil, "rmtree", 1, of_a_whole_checkpoint),
    "after the last step": StopPoint(Optimizers, "step", STEPS, after=True),
    "in the last evaluation": StopPoint(GPTModel, "loss_sum", 5 * 3 + 3 + 4, in_evaluation),
    "in the last save": StopPoint(safetensors.torch, "save_file", 2, of_the_last_step, exit_code=0),
}


@pytest.fixture(autouse=True)
def a_late_signal_is_a_failure() -> Iterator[None]:
    """And not the end of pytest."""

    def fail(*_: object) -> None:
        raise AssertionError("the signal came when no run was listening")

    previous = signal.signal(signal.SIGTERM, fail)
    yield
    signal.signal(signal.SIGTERM, previous)


def stop_at(point: StopPoint, patch: pytest.MonkeyPatch) -> list[int]:
    """Arm the point; the list gets an entry when it is reached."""
    original, calls, reached = getattr(point.owner, point.name), [], []

    def counted(*arguments: Any, **named: Any) -> Any:
        if point.counts(*arguments, **named):
            calls.append(1)
        is_now = len(calls) == point.number and not reached
        if is_now:
            reached.append(1)
        if is_now and not point.after:
            signal.raise_signal(signal.SIGTERM)
        result = original(*arguments, **named)
        if is_now and point.after:
            signal.raise_signal(signal.SIGTERM)
        return result

    patch.setattr(point.owner, point.name, counted)
    return reached


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", POINTS)
def test_a_stopped_run_ends_where_an_uninterrupted_one_ends(
    name: str, kind: str, corpus: Path, uninterrupted: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    point, whole, run = POINTS[name], uninterrupted(**KINDS[kind]), tmp_path / "run"
    capsys.readouterr()
    with pytest.MonkeyPatch.context() as patch:
        reached = stop_at(point, patch)
        code = main(train_words(corpus, run, **KINDS[kind]))
    err = capsys.readouterr().err
    assert reached, "the run never came to this point"
    assert code == point.exit_code, err
    if code:
        assert "everything is saved" in err and "Traceback" not in err
    assert main(resume_words(run)) == 0
    assert_same_end(whole, run)


def test_stopped_again_and_again(corpus: Path, uninterrupted: Callable[..., Path], tmp_path: Path) -> None:
    """After every single step of the run but its last, which is a point of its own above."""
    run, stops = tmp_path / "run", 0
    words = train_words(corpus, run)
    while True:
        with pytest.MonkeyPatch.context() as patch:
            if stops < STEPS - 1:
                stop_at(StopPoint(Optimizers, "step", 1, after=True), patch)
            if main(words) == 0:
                break
        words, stops = resume_words(run), stops + 1
    assert stops == STEPS - 1
    assert_same_end(uninterrupted(), run)


def test_the_stops_fall_where_their_names_say(corpus: Path) -> None:
    batches = TrainingBatches(open_corpus(corpus).train, length=16, batch_size=5, seed=1337)
    assert batches.windows_per_epoch == STEPS_PER_EPOCH * 5
    assert STEPS > 2 * STEPS_PER_EPOCH
