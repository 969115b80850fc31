"""What tests of the Trainer share: an observer to hear it with, and ways to stop it, to spoil its losses, to look at its weights."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gpt_kit.evaluation import LossReport
from gpt_kit.training import Trainer

Build = Callable[..., Trainer]


class Ear:
    """An observer that keeps what it hears, and can act on progress."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self.remarks: list[str] = []
        self.on_progress: Callable[[int, str], None] = lambda *_: None

    def record(self, record: dict[str, Any]) -> None:
        self.records.append(record)

    def say(self, text: str) -> None:
        self.remarks.append(text)

    def progress(self, step: int, activity: str) -> None:
        self.on_progress(step, activity)

    def close(self) -> None: ...


def ear(trainer: Trainer) -> Ear:
    (observer,) = trainer.observers
    assert isinstance(observer, Ear)
    return observer


def ask_to_stop(trainer: Trainer, *, at: int, during: str = "training", signal_number: int = signal.SIGTERM) -> None:
    """The signal will come when `at` steps are done."""

    def stop(step: int, activity: str) -> None:
        if step == at and activity.startswith(during):
            trainer.stop.signal_number = signal_number

    ear(trainer).on_progress = stop


def keep_weights(trainer: Trainer, *steps: int) -> dict[int, dict[str, Tensor]]:
    """Will hold the weights as they are after each of these steps."""
    kept: dict[int, dict[str, Tensor]] = {}

    def keep(step: int, activity: str) -> None:
        if step in steps and activity == "training":
            kept[step] = {name: tensor.clone() for name, tensor in trainer.model.exported_tensors().items()}

    ear(trainer).on_progress = keep
    return kept


def spoil_losses(trainer: Trainer, factor: Callable[[int], float]) -> None:
    """Multiply every loss in training by `factor(steps done)`."""
    whole = trainer.model.loss_sum

    def loss_sum(*arguments: Any, **named: Any) -> Tensor:
        return whole(*arguments, **named) * (factor(trainer.state.step) if trainer.model.training else 1.0)

    trainer.model.loss_sum = loss_sum  # type: ignore[method-assign]


def scripted_losses(monkeypatch: pytest.MonkeyPatch, losses: list[float]) -> None:
    """What the evaluations to come will find."""
    given = iter(losses)
    monkeypatch.setattr("gpt_kit.training.trainer.evaluate_loss", lambda *_, **__: LossReport(next(given), 1))


def folders(run: Path) -> list[str]:
    return sorted(folder.name for folder in (run / "checkpoints").glob("step-*"))


def assert_same_weights(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    """To the last bit."""
    assert a.keys() == b.keys() and a
    for name in a:
        assert torch.equal(a[name], b[name]), name
