"""What goes wrong in the middle of a run: losses that are no numbers, spikes, a full disk, too little memory."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_run import Build, assert_same_weights, ear, folders, keep_weights, spoil_losses

from gpt_kit.config import LoggingConfig
from gpt_kit.errors import DiskFullError, GPTKitError
from gpt_kit.files import check_manifest
from gpt_kit.training import Trainer, learning_rate_share
from gpt_kit.weights import load_weights


def test_a_loss_that_stays_not_finite_ends_the_run_with_its_weights_saved(build: Build, tmp_path: Path) -> None:
    """Five in a row: the run ends in words, and the checkpoint holds the weights from before the first of them."""
    trainer = build(max_steps=20, evaluate_every=100)
    spoil_losses(trainer, lambda step: math.nan if step >= 3 else 1.0)
    weights = keep_weights(trainer, 3)
    with pytest.raises(
        GPTKitError, match=r"not finite 5 times in a row.*step 8.*start again and a lower --training\.learning-rate, such as 0\.0002"
    ):
        trainer.fit()
    assert len(ear(trainer).remarks) == 1 and "this update was skipped" in ear(trainer).remarks[0]
    assert folders(tmp_path) == ["step-00000008"]
    assert_same_weights(weights[3], load_weights(tmp_path / "checkpoints" / "step-00000008").tensors)
    losses = [record["train/loss"] for record in ear(trainer).records]
    assert sum(map(math.isnan, losses)) == 5, "NaN must not be hidden from the log"


def test_every_step_that_was_not_finite_is_recorded_whatever_the_interval(build: Build) -> None:
    trainer = build(max_steps=8, evaluate_every=2)
    trainer.config = dataclasses.replace(trainer.config, logging=LoggingConfig(interval=1000))
    spoil_losses(trainer, lambda step: math.nan if step >= 2 else 1.0)
    with pytest.raises(GPTKitError, match=r"go on from the best checkpoint, with --resume \S*step-0000000\d"):
        trainer.fit()
    assert [record["step"] for record in ear(trainer).records if "train/loss" in record] == [1, 3, 4, 5, 6, 7]


def test_a_skipped_update_does_not_advance_the_schedule(build: Build) -> None:
    """An fp16 overflow, say, at the fourth step: the fifth runs at the rate that the fourth should have had."""
    trainer = build(learning_rate=0.01, evaluate_every=100)
    spoil_losses(trainer, lambda step: math.nan if step == 3 else 1.0)
    trainer.fit()
    config = trainer.config.training
    found = {record["step"]: record["learning_rate"] for record in ear(trainer).records if "train/loss" in record}
    assert found[3] == 0.01 * learning_rate_share(2, config)
    assert [found[step] for step in (5, 6, 7)] == [0.01 * learning_rate_share(updates, config) for updates in (3, 4, 5)]


def test_single_skipped_updates_do_not_add_up(build: Build) -> None:
    """Every tenth update is not finite, late in the run as well (150 steps: the watch has then seen its whole window)."""
    trainer = build(max_steps=150, evaluate_every=1000, micro_batch_size=0)
    trainer.val_batches = None
    spoil_losses(trainer, lambda step: math.nan if step % 10 == 9 else 1.0)
    state = trainer.fit()
    assert state.step == 150 and state.skipped_updates <= 1
    assert sum("this update was skipped" in remark for remark in ear(trainer).remarks) == 1


def test_skipped_spikes_change_nothing_are_written_out_and_forgotten(build: Build, tmp_path: Path) -> None:
    """A loss a hundred times too high at step 140, once: no update, the batch in a file, and the rule's past does not hold it."""
    trainer = build(max_steps=141, evaluate_every=1000, skip_spikes=True)
    trainer.val_batches = None
    spoil_losses(trainer, lambda step: 100.0 if step == 139 else 1.0)
    weights = keep_weights(trainer, 139, 140)
    state = trainer.fit()
    assert_same_weights(weights[139], weights[140])
    assert (state.updates, state.skipped_updates, len(state.losses), len(state.grad_norms)) == (140, 0, 128, 128)
    (file,) = (tmp_path / "skipped").iterdir()
    written = json.loads(file.read_text())
    assert (file.name, written["step"], written["why"]) == ("step-00000140.json", 140, "spike")
    batch = trainer.train_batches.batch(139)
    assert [window["token_ids"][:-1] for window in written["windows"]] == batch.inputs.tolist()
    assert [window["text"] for window in written["windows"]] == [trainer.tokenizer.decode(w["token_ids"]) for w in written["windows"]]
    assert max(state.losses) < 10 and any("skipped/" in remark for remark in ear(trainer).remarks)


def test_without_the_setting_a_spike_is_an_update_like_any_other(build: Build, tmp_path: Path) -> None:
    trainer = build(max_steps=140, evaluate_every=1000)
    trainer.val_batches = None
    spoil_losses(trainer, lambda step: 100.0 if step == 139 else 1.0)
    assert trainer.fit().updates == 140 and not (tmp_path / "skipped").exists()


def test_a_run_that_skips_spikes_resumes_to_the_same_bits(build: Build, tmp_path: Path) -> None:
    """The rule's past travels with the checkpoint: the spike after the restart is seen as without one."""

    def fit(**settings: Any) -> Trainer:
        trainer = build(max_steps=150, evaluate_every=1000, save_every=135, skip_spikes=True, **settings)
        trainer.val_batches = None
        spoil_losses(trainer, lambda step: 100.0 if step == 139 else 1.0)
        trainer.fit()
        return trainer

    uninterrupted = fit(keep=9)
    resumed = fit(keep=9, resume=tmp_path / "checkpoints" / "step-00000135")
    assert resumed.state.updates == uninterrupted.state.updates == 149
    assert (resumed.state.losses, resumed.state.grad_norms) == (uninterrupted.state.losses, uninterrupted.state.grad_norms)
    assert_same_weights(resumed.model.exported_tensors(), uninterrupted.model.exported_tensors())


def test_a_run_that_is_not_finite_stops_after_as_many_updates_as_it_is_told(build: Build, tmp_path: Path) -> None:
    trainer = build(max_skipped_updates=2)
    spoil_losses(trainer, lambda step: math.nan if step >= 3 else 1.0)
    with pytest.raises(GPTKitError, match="not finite 2 times in a row, so the run stopped at step 5"):
        trainer.fit()
    assert trainer.state.updates == 3
    assert sorted(file.name for file in (tmp_path / "skipped").iterdir()) == ["step-00000004.json", "step-00000005.json"]


def full_disk_until(monkeypatch: pytest.MonkeyPatch, has_room: Callable[[], bool]) -> None:
    monkeypatch.setattr("gpt_kit.files.free_bytes", lambda _: 10**12 if has_room() else 1234)


def test_a_full_disk_costs_a_checkpoint_and_not_the_run(build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = build(save_every=2, keep=9, evaluate_every=1000)
    full_disk_until(monkeypatch, lambda: trainer.state.step not in (4, 6))
    trainer.fit()
    assert folders(tmp_path) == ["step-00000002", "step-00000008"]
    remarks = [remark for remark in ear(trainer).remarks if "disk is full" in remark]
    assert len(remarks) == 2 and all(re.search(r"[\d,]{7,} bytes needed, 1,234 bytes free", remark) for remark in remarks)
    assert "The run goes on" in remarks[0]
    assert not list((tmp_path / "checkpoints").glob(".incomplete-*"))


def test_on_a_full_disk_the_run_stops_where_it_is_told_to(build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = build(save_every=2, evaluate_every=1000)
    trainer.config = dataclasses.replace(trainer.config, checkpoints=dataclasses.replace(trainer.config.checkpoints, on_full_disk="stop"))
    full_disk_until(monkeypatch, lambda: trainer.state.step < 4)
    with pytest.raises(DiskFullError, match=r"step-00000004: the disk is full \([\d,]+ bytes needed, 1,234 bytes free\)"):
        trainer.fit()
    check_manifest(tmp_path / "checkpoints" / "step-00000002")


def test_the_last_checkpoint_is_not_given_up_in_silence(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = build(evaluate_every=1000)
    full_disk_until(monkeypatch, lambda: False)
    with pytest.raises(DiskFullError, match="bytes needed"):
        trainer.fit()
    assert trainer.state.step == 8


def test_short_memory_saves_and_names_what_fits(build: Build, tmp_path: Path) -> None:
    """Three windows at once are too many and one is not: that is said, and what is saved is the step before, to the bit."""
    build(micro_batch_size=3, evaluate_every=1000, save_every=5, keep=9).fit()
    before = tmp_path / "checkpoints" / "step-00000005"
    names = ("model.safetensors", "training_state/optimizer.safetensors", "training_state/random.safetensors")
    expected = {name: (before / name).read_bytes() for name in names}
    shutil.rmtree(tmp_path / "checkpoints")
    trainer = build(micro_batch_size=3, evaluate_every=1000)
    whole = trainer.model.loss_sum

    def loss_sum(inputs: torch.Tensor, *arguments: Any, **named: Any) -> torch.Tensor:
        if len(inputs) > 1 and trainer.state.step == 5:
            raise RuntimeError(
                "[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."
            )
        return whole(inputs, *arguments, **named)

    trainer.model.loss_sum = loss_sum  # type: ignore[method-assign]
    with pytest.raises(GPTKitError, match=r"out of memory in step 6, with a micro-batch of 3 windows; 1 would fit, .*--micro-batch 1"):
        trainer.fit()
    assert {name: (before / name).read_bytes() for name in names} == expected
    resumed = build(resume=tmp_path / "checkpoints" / "step-00000005", micro_batch_size=1, evaluate_every=1000)
    resumed.fit()
    uninterrupted = build(micro_batch_size=3, evaluate_every=1000)
    uninterrupted.fit()
    for name, tensor in resumed.model.exported_tensors().items():
        torch.testing.assert_close(tensor, uninterrupted.model.exported_tensors()[name], rtol=0, atol=3e-3)  # dropout is drawn otherwise


def test_memory_that_runs_out_in_the_middle_of_an_update_saves_no_half_updated_weights(build: Build, tmp_path: Path) -> None:
    trainer = build(save_every=2, evaluate_every=1000)
    (adamw,) = trainer.optimizers.optimizers
    whole = adamw.step

    def step(*arguments: Any, **named: Any) -> Any:
        if trainer.state.step == 5:
            raise MemoryError
        return whole(*arguments, **named)

    adamw.step = step  # type: ignore[method-assign]
    with pytest.raises(GPTKitError, match=r"out of memory in step 6, .* Go on from the last checkpoint with"):
        trainer.fit()
    assert folders(tmp_path) == ["step-00000002", "step-00000004"]
