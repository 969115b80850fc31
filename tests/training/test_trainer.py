"""The order of events: evaluate, save, stop, step; pointers that are true whatever happened in between."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gpt_kit.config import CheckpointConfig, EvaluationConfig, LoggingConfig, ModelConfig, RunConfig, TrainingConfig
from gpt_kit.data import EvaluationBatches, ReadAhead, TokenArray, TrainingBatches
from gpt_kit.errors import DiskFullError, GPTKitError, RunStopped
from gpt_kit.evaluation import LossReport
from gpt_kit.files import check_manifest
from gpt_kit.locate import best_checkpoint
from gpt_kit.model import GPTModel
from gpt_kit.runtime import StopRequest, choose_precision
from gpt_kit.tokenizers import train_tokenizer
from gpt_kit.training import (
    Optimizers,
    Trainer,
    TrainingState,
    drop_samples_after,
    learning_rate_share,
    restore_checkpoint,
    set_aside_after,
)
from gpt_kit.weights import load_weights

CPU = torch.device("cpu")
TEXT = "the cat sat on the mat\nand the dog sat on the cat\n" * 12
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


@pytest.fixture
def build(tiny_config: Callable[..., ModelConfig], tmp_path: Path) -> Build:
    """A Trainer over a tiny text in `tmp_path`; with `resume` it goes on from that checkpoint."""
    tokenizer = train_tokenizer("char", [TEXT])
    ids = np.array(tokenizer.encode(TEXT))

    def make(*, resume: Path | None = None, keep: int = 2, save_every: int = 0, evaluate_every: int = 2, **training: Any) -> Trainer:
        config = RunConfig(
            model=tiny_config(vocab_size=tokenizer.vocab_size, residual_dropout=0.1),
            training=TrainingConfig(**{"max_steps": 8, "batch_size": 3, "micro_batch_size": 2, "warmup_steps": 2, **training}),
            evaluation=EvaluationConfig(interval=evaluate_every, sample_tokens=2),
            checkpoints=CheckpointConfig(interval=save_every, keep=keep),
            logging=LoggingConfig(interval=1),
        )
        torch.manual_seed(config.training.seed)
        model = GPTModel(config.model)
        optimizers = Optimizers(model, config.training, CPU)
        state = restore_checkpoint(resume, model, optimizers) if resume else TrainingState()
        set_aside_after(tmp_path, state.step)
        drop_samples_after(tmp_path, state.evaluated_step)
        train = TrainingBatches(TokenArray([ids[:400]]), length=11, batch_size=3, seed=1)
        val = EvaluationBatches(TokenArray([ids[400:]]), length=11, batch_size=3)
        assert len(val) >= 2
        return Trainer(
            run=tmp_path,
            config=config,
            model=model,
            optimizers=optimizers,
            train_batches=train,
            val_batches=val,
            whole_val_batches=None,
            tokenizer=tokenizer,
            device=CPU,
            precision=choose_precision("float32", CPU),
            observers=[Ear()],
            state=state,
            stop=StopRequest(),
        )

    return make


def ear(trainer: Trainer) -> Ear:
    (observer,) = trainer.observers
    assert isinstance(observer, Ear)
    return observer


def folders(run: Path) -> list[str]:
    return sorted(folder.name for folder in (run / "checkpoints").glob("step-*"))


def scripted_losses(monkeypatch: pytest.MonkeyPatch, losses: list[float]) -> None:
    given = iter(losses)
    monkeypatch.setattr("gpt_kit.training.trainer.evaluate_loss", lambda *_, **__: LossReport(next(given), 1))


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

    def stop(step: int, _: str) -> None:
        if step == 3:
            trainer.stop.signal_number = 15

    ear(trainer).on_progress = stop
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

    def stop(step: int, activity: str) -> None:
        if step == stop_at and activity.startswith("validating"):
            trainer.stop.signal_number = 2

    ear(trainer).on_progress = stop
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


def test_a_loss_that_stays_not_finite_ends_the_run_with_its_weights_saved(build: Build, tmp_path: Path) -> None:
    """Five in a row: the run ends in words, and the checkpoint holds the weights from before the first of them."""
    trainer = build(max_steps=20, evaluate_every=100)
    whole = trainer.model.loss_sum

    def poisoned(*arguments: Any, **options: Any) -> torch.Tensor:
        return whole(*arguments, **options) * (math.nan if trainer.state.step >= 3 else 1.0)

    weights: dict[str, torch.Tensor] = {}

    def keep(step: int, activity: str) -> None:
        if step == 3 and activity == "training":
            weights.update({name: tensor.clone() for name, tensor in trainer.model.exported_tensors().items()})

    ear(trainer).on_progress = keep
    trainer.model.loss_sum = poisoned  # type: ignore[method-assign]
    with pytest.raises(
        GPTKitError, match=r"not finite 5 times in a row.*step 8.*start again and a lower --training\.learning-rate, such as 0\.0002"
    ):
        trainer.fit()
    assert len(ear(trainer).remarks) == 1 and "this update was skipped" in ear(trainer).remarks[0]
    assert folders(tmp_path) == ["step-00000008"]
    saved = load_weights(tmp_path / "checkpoints" / "step-00000008").tensors
    assert weights and all(torch.equal(saved[name], tensor) for name, tensor in weights.items())
    losses = [record["train/loss"] for record in ear(trainer).records]
    assert sum(map(math.isnan, losses)) == 5, "NaN must not be hidden from the log"


def test_every_step_that_was_not_finite_is_recorded_whatever_the_interval(build: Build) -> None:
    trainer = build(max_steps=8, evaluate_every=2)
    trainer.config = dataclasses.replace(trainer.config, logging=LoggingConfig(interval=1000))
    whole = trainer.model.loss_sum
    trainer.model.loss_sum = lambda *a, **k: whole(*a, **k) * (math.nan if trainer.model.training and trainer.state.step >= 2 else 1.0)  # type: ignore[method-assign]
    with pytest.raises(GPTKitError, match=r"go on from the best checkpoint, with --resume \S*step-0000000\d"):
        trainer.fit()
    assert [record["step"] for record in ear(trainer).records if "train/loss" in record] == [1, 3, 4, 5, 6, 7]


def test_a_skipped_update_does_not_advance_the_schedule(build: Build) -> None:
    """An fp16 overflow, say, at the fourth step: the fifth runs at the rate that the fourth should have had."""
    trainer = build(learning_rate=0.01, evaluate_every=100)
    whole = trainer.model.loss_sum
    trainer.model.loss_sum = lambda *a, **k: whole(*a, **k) * (math.nan if trainer.state.step == 3 else 1.0)  # type: ignore[method-assign]
    trainer.fit()
    config = trainer.config.training
    found = {record["step"]: record["learning_rate"] for record in ear(trainer).records if "train/loss" in record}
    assert found[3] == 0.01 * learning_rate_share(2, config)
    assert [found[step] for step in (5, 6, 7)] == [0.01 * learning_rate_share(updates, config) for updates in (3, 4, 5)]


def test_single_skipped_updates_do_not_add_up(build: Build) -> None:
    """Every tenth update is not finite, late in the run as well (150 steps: the watch has then seen its whole window)."""
    trainer = build(max_steps=150, evaluate_every=1000, micro_batch_size=0)
    trainer.val_batches = None
    whole = trainer.model.loss_sum
    trainer.model.loss_sum = lambda *a, **k: whole(*a, **k) * (math.nan if trainer.state.step % 10 == 9 else 1.0)  # type: ignore[method-assign]
    state = trainer.fit()
    assert state.step == 150 and state.skipped_updates <= 1
    assert sum("this update was skipped" in remark for remark in ear(trainer).remarks) == 1


def test_saving_after_going_back_to_an_older_checkpoint_keeps_what_was_just_saved(build: Build, tmp_path: Path) -> None:
    """The newest checkpoint (6) is damaged, the run goes on from 4 and saves 5: with keep=1 that must be 5, not the damaged 6."""
    build(max_steps=6, save_every=2, keep=3).fit()
    damaged = tmp_path / "checkpoints" / "step-00000006" / "model.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-4])
    resumed = build(resume=tmp_path / "checkpoints" / "step-00000004", max_steps=6, save_every=1, keep=1, evaluate_every=100)

    def stop(step: int, _: str) -> None:
        if step == 5:
            resumed.stop.signal_number = 15

    ear(resumed).on_progress = stop
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


def test_skipped_spikes_change_nothing_are_written_out_and_forgotten(build: Build, tmp_path: Path) -> None:
    """A loss a hundred times too high at step 140, once: no update, the batch in a file, and the rule's past does not hold it."""
    trainer = build(max_steps=141, evaluate_every=1000, skip_spikes=True)
    trainer.val_batches = None
    whole, before = trainer.model.loss_sum, {}

    def loss_sum(*arguments: Any, **named: Any) -> torch.Tensor:
        before.update({name: p.detach().clone() for name, p in trainer.model.named_parameters()} if trainer.state.step == 139 else {})
        return whole(*arguments, **named) * (100.0 if trainer.state.step == 139 else 1.0)

    trainer.model.loss_sum = loss_sum  # type: ignore[method-assign]

    def compare(step: int, activity: str) -> None:
        if step == 140 and activity == "training":
            assert all(torch.equal(p, before[name]) for name, p in trainer.model.named_parameters())

    ear(trainer).on_progress = compare
    state = trainer.fit()
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
    whole = trainer.model.loss_sum
    trainer.model.loss_sum = lambda *a, **k: whole(*a, **k) * (100.0 if trainer.state.step == 139 else 1.0)  # type: ignore[method-assign]
    assert trainer.fit().updates == 140 and not (tmp_path / "skipped").exists()


def test_a_run_that_skips_spikes_resumes_to_the_same_bits(build: Build, tmp_path: Path) -> None:
    """The rule's past travels with the checkpoint: the spike after the restart is seen as without one."""

    def fit(**settings: Any) -> Trainer:
        trainer = build(max_steps=150, evaluate_every=1000, save_every=135, skip_spikes=True, **settings)
        trainer.val_batches = None
        whole = trainer.model.loss_sum
        trainer.model.loss_sum = lambda *a, **k: whole(*a, **k) * (100.0 if trainer.state.step == 139 else 1.0)  # type: ignore[method-assign]
        trainer.fit()
        return trainer

    uninterrupted = fit(keep=9)
    resumed = fit(keep=9, resume=tmp_path / "checkpoints" / "step-00000135")
    assert resumed.state.updates == uninterrupted.state.updates == 149
    assert (resumed.state.losses, resumed.state.grad_norms) == (uninterrupted.state.losses, uninterrupted.state.grad_norms)
    for name, tensor in resumed.model.exported_tensors().items():
        assert torch.equal(tensor, uninterrupted.model.exported_tensors()[name])


def test_a_run_that_is_not_finite_stops_after_as_many_updates_as_it_is_told(build: Build, tmp_path: Path) -> None:
    trainer = build(max_skipped_updates=2)
    whole = trainer.model.loss_sum
    trainer.model.loss_sum = lambda *a, **k: whole(*a, **k) * (math.nan if trainer.state.step >= 3 else 1.0)  # type: ignore[method-assign]
    with pytest.raises(GPTKitError, match="not finite 2 times in a row, so the run stopped at step 5"):
        trainer.fit()
    assert trainer.state.updates == 3
    assert sorted(file.name for file in (tmp_path / "skipped").iterdir()) == ["step-00000004.json", "step-00000005.json"]


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
    for name, tensor in resumed.model.exported_tensors().items():
        assert torch.equal(tensor, uninterrupted.model.exported_tensors()[name])


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

    def stop(step: int, _: str) -> None:
        if step == 5:
            trainer.stop.signal_number = 15

    ear(trainer).on_progress = stop
    with pytest.raises(RunStopped):
        trainer.fit()
    resumed = ahead(resume=tmp_path / "checkpoints" / "step-00000005")
    resumed.fit()
    for name, tensor in resumed.model.exported_tensors().items():
        assert torch.equal(tensor, plain.model.exported_tensors()[name])
