"""The order of events: evaluate, save, stop, step; pointers that are true whatever happened in between."""

from __future__ import annotations

import dataclasses
import math
import shutil
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from small_run import Build, ask_to_stop, assert_same_weights, ear, folders, scripted_losses

from gpt_kit.data import ReadAhead
from gpt_kit.errors import RunStopped
from gpt_kit.evaluation import LanguageModelling, LossReport
from gpt_kit.files import check_manifest
from gpt_kit.locate import best_checkpoint
from gpt_kit.training import Trainer, learning_rate_share


def test_the_best_checkpoint_is_never_replaced_by_a_worse_one(build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Validation 3.0, 2.0, 2.5, 2.7 at steps 2, 4, 6, 8: best is 4, last is 8, and with keep=1 nothing else stays."""
    scripted_losses(monkeypatch, [3.0, 2.0, 2.5, 2.7])
    state = build(keep=1).fit()
    assert (state.best_step, state.best_val_loss) == (4, 2.0)
    assert folders(tmp_path) == ["step-00000004", "step-00000008"]
    assert best_checkpoint(tmp_path).name == "step-00000004"
    assert (tmp_path / "checkpoints" / "last").read_text() == "step-00000008\n"
    for name in folders(tmp_path):
        check_manifest(tmp_path / "checkpoints" / name)


def test_a_validation_loss_that_is_no_number_is_never_the_best(build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted_losses(monkeypatch, [math.nan, 2.0, math.nan, 2.5])
    state = build().fit()
    assert (state.best_step, state.best_val_loss) == (4, 2.0)
    assert best_checkpoint(tmp_path).name == "step-00000004"


def test_what_is_best_is_the_objectives_to_say(build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wrong answers 40, 20, 30, 20 % while the loss rises all the time: best is step 4, also for a run that was stopped after it."""

    class ByErrors(LanguageModelling):
        def misfit(self, means: Mapping[str, float]) -> float:
            return means["errors"]

    found = iter(LossReport(loss, 1, {"errors": errors}) for loss, errors in [(1.0, 0.4), (2.0, 0.2), (3.0, 0.3), (4.0, 0.2)])
    monkeypatch.setattr("gpt_kit.training.trainer.evaluate_loss", lambda *_, **__: next(found))
    trainer = build(save_every=4)
    trainer.objective = ByErrors()
    ask_to_stop(trainer, at=5)
    with pytest.raises(RunStopped):
        trainer.fit()
    trainer = build(resume=tmp_path / "checkpoints" / "step-00000005")
    trainer.objective = ByErrors()
    state = trainer.fit()
    assert (state.best_step, state.best_val_loss, state.best_misfit) == (4, 2.0, 0.2)
    assert best_checkpoint(tmp_path).name == "step-00000004"


def test_events_come_in_their_order_and_at_their_steps(build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record for every step, validation at 3, 6 and the end, checkpoints every 5 steps and at the end; samples at each evaluation."""
    scripted_losses(monkeypatch, [1.0, 2.0, 3.0])
    trainer = build(save_every=5, evaluate_every=3, keep=9)
    trainer.fit()
    records = ear(trainer).records
    assert [record["step"] for record in records if "train/loss" in record] == list(range(1, 9))
    assert [(record["step"], record["val/loss"]) for record in records if "val/loss" in record] == [(3, 1.0), (6, 2.0), (8, 3.0)]
    assert [record["tokens_seen"] for record in records if "train/loss" in record] == [33 * step for step in range(1, 9)]
    assert folders(tmp_path) == ["step-00000003", "step-00000005", "step-00000008"]
    samples = (tmp_path / "samples.md").read_text(encoding="utf-8")
    assert [line.split(",")[0] for line in samples.splitlines() if line.startswith("## ")] == ["## step 3", "## step 6", "## step 8"]
    assert samples.count("| input | target | predicted |") == 3


def test_the_learning_rate_recorded_is_the_one_the_schedule_gives(build: Build) -> None:
    trainer = build(learning_rate=0.01)
    trainer.fit()
    config = trainer.config.training
    found = [record["learning_rate"] for record in ear(trainer).records if "train/loss" in record]
    assert found == [0.01 * learning_rate_share(step, config) for step in range(8)]


def test_a_stop_is_answered_after_the_step_with_everything_saved(build: Build, tmp_path: Path) -> None:
    trainer = build(evaluate_every=100)
    ask_to_stop(trainer, at=3)
    with pytest.raises(RunStopped, match=r"after step 3 of 8; everything is saved\. Go on with: .*--resume auto") as caught:
        trainer.fit()
    assert caught.value.exit_code == 143
    assert folders(tmp_path) == ["step-00000003"]
    resumed = build(resume=tmp_path / "checkpoints" / "step-00000003", evaluate_every=100)
    assert resumed.state == dataclasses.replace(trainer.state)
    resumed.fit()
    assert [record["step"] for record in ear(resumed).records if "train/loss" in record] == [4, 5, 6, 7, 8]


@pytest.mark.parametrize("stop_at", [4, 8])
def test_a_stop_in_the_middle_of_an_evaluation_costs_neither_it_nor_the_best(build: Build, tmp_path: Path, stop_at: int) -> None:
    """The interrupted evaluation is made on resuming; if it finds the best model so far, `best` must name it."""
    options = {"max_steps": 8, "learning_rate": 0.01, "save_every": 0}
    trainer = build(**options)
    ask_to_stop(trainer, at=stop_at, during="validating", signal_number=signal.SIGINT)
    with pytest.raises(RunStopped) as caught:
        trainer.fit()
    assert caught.value.exit_code == 130
    assert trainer.state.evaluated_step == stop_at - 2
    resumed = build(resume=tmp_path / "checkpoints" / f"step-{stop_at:08d}", **options)
    state = resumed.fit()
    validated = [record["step"] for o in (trainer, resumed) for record in ear(o).records if "val/loss" in record]
    assert validated == [2, 4, 6, 8]
    losses = {record["step"]: record["val/loss"] for o in (trainer, resumed) for record in ear(o).records if "val/loss" in record}
    assert losses[stop_at] < min(loss for step, loss in losses.items() if step < stop_at), "that evaluation must be the best so far"
    assert state.best_step == min(losses, key=losses.__getitem__)
    assert (tmp_path / "checkpoints" / "best").read_text().strip() == f"step-{state.best_step:08d}"
    assert best_checkpoint(tmp_path).is_dir()


def test_the_best_found_by_an_evaluation_after_resuming_survives_worse_ones(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in mid-evaluation at step 4; resumed, step 4 is the best and 6 and 8 are worse: `best` names 4, which is there."""
    trainer = build(keep=1)
    scripted = iter([3.0])

    def evaluate(*_: object, progress: Callable[[int], None], **__: object) -> LossReport:
        if trainer.state.step == 4:
            trainer.stop.signal_number = 15
            progress(1)
        return LossReport(next(scripted), 1)

    monkeypatch.setattr("gpt_kit.training.trainer.evaluate_loss", evaluate)
    with pytest.raises(RunStopped):
        trainer.fit()
    scripted_losses(monkeypatch, [2.0, 2.5, 2.7])
    state = build(resume=tmp_path / "checkpoints" / "step-00000004", keep=1).fit()
    assert state.best_step == 4
    assert best_checkpoint(tmp_path).name == "step-00000004"


def test_saving_after_going_back_to_an_older_checkpoint_keeps_what_was_just_saved(build: Build, tmp_path: Path) -> None:
    """The newest checkpoint (6) is damaged, the run goes on from 4 and saves 5: with keep=1 that must be 5, not the damaged 6."""
    build(max_steps=6, save_every=2, keep=3).fit()
    damaged = tmp_path / "checkpoints" / "step-00000006" / "model.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-4])
    resumed = build(resume=tmp_path / "checkpoints" / "step-00000004", max_steps=6, save_every=1, keep=1, evaluate_every=100)
    ask_to_stop(resumed, at=5)
    with pytest.raises(RunStopped):
        resumed.fit()
    last = (tmp_path / "checkpoints" / "last").read_text().strip()
    assert last == "step-00000005"
    check_manifest(tmp_path / "checkpoints" / last)


def test_after_going_back_best_names_the_best_of_this_run(build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Validation 3.0, 2.0, 1.0 at steps 2, 4, 6; resumed from 4, step 6 has 2.5 this time: `best` is 4, not the new and worse 6."""
    scripted_losses(monkeypatch, [3.0, 2.0, 1.0])
    build(max_steps=6, keep=9).fit()
    assert best_checkpoint(tmp_path).name == "step-00000006"
    scripted_losses(monkeypatch, [2.5])
    state = build(resume=tmp_path / "checkpoints" / "step-00000004", max_steps=6, keep=9).fit()
    assert (state.best_step, state.best_val_loss) == (4, 2.0)
    assert best_checkpoint(tmp_path).name == "step-00000004"


def test_without_validation_text_the_run_trains_all_the_same(build: Build, tmp_path: Path) -> None:
    trainer = build()
    trainer.val_batches = None
    state = trainer.fit()
    assert state.step == 8 and state.best_val_loss is None
    assert best_checkpoint(tmp_path).name == "step-00000008"


@pytest.mark.parametrize("where", ["forward", "backward"])
def test_a_stop_cuts_a_pass_short_and_leaves_the_run_as_it_was_before_the_step(build: Build, tmp_path: Path, where: str) -> None:
    """The request comes inside the last block of step 4; the checkpoint is that of step 3, and ends where an uninterrupted run ends."""
    uninterrupted = build(evaluate_every=1000)
    uninterrupted.fit()
    shutil.rmtree(tmp_path / "checkpoints")
    trainer, passes = build(evaluate_every=1000), []

    def ask(*_: object) -> None:
        if trainer.state.step == 3:
            trainer.stop.signal_number = 15

    def after(_module: object, _inputs: object, output: torch.Tensor) -> None:
        passes.append(trainer.state.step)
        ask() if where == "forward" else output.register_hook(ask)

    trainer.model.blocks[-1].register_forward_hook(after)
    with pytest.raises(RunStopped, match="after step 3 of 8; everything is saved"):
        trainer.fit()
    assert passes.count(3) == 1  # of two micro-batches
    resumed = build(evaluate_every=1000, resume=tmp_path / "checkpoints" / "step-00000003")
    resumed.fit()
    assert_same_weights(resumed.model.exported_tensors(), uninterrupted.model.exported_tensors())


def test_reading_ahead_neither_skips_nor_repeats_over_a_stop(build: Build, tmp_path: Path) -> None:
    """As on a GPU: the batch after the one that is trained is already read when the stop comes."""
    plain = build(evaluate_every=1000)
    plain.fit()
    shutil.rmtree(tmp_path / "checkpoints")

    def ahead(**settings: Any) -> Trainer:
        trainer = build(evaluate_every=1000, **settings)
        trainer.read_batch = ReadAhead(trainer.train_batches.batch)
        return trainer

    trainer = ahead()
    ask_to_stop(trainer, at=5)
    with pytest.raises(RunStopped):
        trainer.fit()
    resumed = ahead(resume=tmp_path / "checkpoints" / "step-00000005")
    resumed.fit()
    assert_same_weights(resumed.model.exported_tensors(), plain.model.exported_tensors())
