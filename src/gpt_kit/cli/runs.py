"""Task -> a run: whatever is trained, it is locked, resumed, saved, watched and drawn in the same way.

    settings -> the checkpoint to go on from, if any -> the task's data and model -> Trainer.fit()

Everything that can be wrong is found here, before the first step.
"""

from __future__ import annotations

import dataclasses
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.text import Text
from torch import nn

from gpt_kit.cli.display import LiveDisplay, console, note
from gpt_kit.cli.resume import check_resumable, checkpoint_to_resume
from gpt_kit.config import ModelConfig, Settings, run_config_to_toml
from gpt_kit.data import Batches, BatchSequence
from gpt_kit.errors import GPTKitError
from gpt_kit.evaluation import LANGUAGE_MODELLING, Objective
from gpt_kit.files import lock_folder, write_atomically, write_json
from gpt_kit.model import GPTModel, count_model
from gpt_kit.runtime import (
    Precision,
    StopRequest,
    World,
    can_compile,
    check_can_compile,
    choose_device,
    choose_precision,
    describe_machine,
    seed_everything,
    start_world,
    tune_memory,
)
from gpt_kit.tokenizers import Tokenizer
from gpt_kit.training import (
    WHOLE_MODEL,
    MetricsFile,
    ModelFiles,
    Observer,
    Optimizers,
    Trainer,
    TrainingState,
    checkpoint_folder,
    draw_loss_png,
    drop_samples_after,
    open_tracker,
    points_of,
    read_metrics,
    restore_progress,
    save_checkpoint,
    set_aside_after,
    spread,
    write_sample,
)
from gpt_kit.version import __version__

STEPS_WORTH_COMPILING = 500


class Task(ABC):
    """What a kind of run brings along: its data, its model, and what it minimises."""

    config: Settings
    """All settings, with what the data decided filled in; they become the run's config.toml."""
    tokenizer: Tokenizer
    data_order: dict[str, object]
    """Whatever decides what a step reads: a resumed run must have the same."""
    objective: Objective = LANGUAGE_MODELLING
    files: ModelFiles = WHOLE_MODEL

    @abstractmethod
    def build_model(self, device: torch.device) -> GPTModel:
        """The model as it is before the first step; random states are seeded."""

    @abstractmethod
    def batches(self, device: torch.device) -> tuple[BatchSequence, Batches | None, Batches | None]:
        """To train on; a fixed part of what validates, and all of it where that is more."""

    @abstractmethod
    def facts(self) -> Sequence[str | Text]:
        """Lines on model and data for whoever starts the run."""

    def write_sample(self, *sample: Any) -> None:
        """Show in RUN/samples.md what the model can do by now; see training/samples.py."""
        write_sample(*sample)


Prepare = Callable[[Path | None, Precision, torch.device, World], Task]
"""The checkpoint that the run goes on from, if any, and where it computes -> the task."""


def start_run(config: Settings, run: Path, resume: str, prepare: Prepare) -> Trainer:
    """Prepare the task and train it to the end.

    Raises what the kit raises; the folder is locked meanwhile. Of several processes, each calls this and the main one writes.
    """
    tune_memory()
    device = choose_device(config.training.device)
    precision = choose_precision(config.training.precision, device)
    with start_world(device, config.training.rank_timeout_seconds) as world, _locked(run, world):
        console.quiet = not world.is_main
        versions = {"version of gpt_kit": __version__, "version of torch": torch.__version__}
        world.agree({**versions, "--out": str(run), "--resume": resume or "none", **_by_full_name(config)})
        checkpoint = checkpoint_to_resume(run, resume, world)
        task = prepare(checkpoint, precision, device, world)
        config = task.config
        model, spread_model, optimizers, state = _model_and_state(task, checkpoint, precision, device, world)
        batches = task.batches(device)
        if checkpoint is not None and checkpoint.resolve() != checkpoint_folder(run, state.step).resolve():
            save_checkpoint(
                run, model, optimizers, state, task.tokenizer, world, task.files
            )  # another run's, and from here on this one's too
        if world.is_main:
            _write_beginning(config, run, state, world)
        for line in task.facts():
            console.print(line)
        processes = f", {world.size} processes ({config.training.parallel})" if world.size > 1 else ""
        tokens = config.training.max_steps * batches[0].tokens_per_batch
        console.print(
            f"run     {config.training.max_steps:,} steps, {tokens:,} tokens, {config.training.optimizer}, "
            f"{precision.name} on {device}{processes}"
        )
        if checkpoint is not None:
            console.print(f"resumed from {checkpoint} at step {state.step}")
        with StopRequest() as stop, _observers(config, run, state, world) as observers:
            trainer = Trainer(
                run, config, model, optimizers, *batches, task.tokenizer, device, precision, observers, state, stop, world,
                spread_model, task.objective, task.files, task.write_sample,
            )  # fmt: skip
            try:
                trainer.fit()
            finally:
                if world.is_main:
                    _draw_curve(run, config)
    return trainer


def compile_wanted(config: Settings, device: torch.device) -> bool:
    """Raises: DeviceError where compiling is asked for and cannot be had."""
    if config.training.compile == "on":
        check_can_compile()
    pays = device.type == "cuda" and config.training.max_steps >= STEPS_WORTH_COMPILING and can_compile()
    return config.training.compile == "on" or (config.training.compile == "auto" and pays)


def free_folder(wanted: Path) -> Path:
    """`wanted`, or the first of wanted-2, wanted-3 … that does not exist."""
    number, folder = 2, wanted
    while folder.exists():
        folder, number = wanted.with_name(f"{wanted.name}-{number}"), number + 1
    return folder


def describe_model(config: ModelConfig) -> str:
    """One line on the shape of a model."""
    return (
        f"model   {count_model(config).total_parameters:,} parameters: n_layer {config.n_layer}, n_embd {config.n_embd}, "
        f"n_head {config.n_head}, context {config.max_position_embeddings}"
    )


def _model_and_state(
    task: Task, checkpoint: Path | None, precision: Precision, device: torch.device, world: World
) -> tuple[GPTModel, nn.Module | None, Optimizers, TrainingState]:
    """New weights and a new state, or those of the checkpoint; the model as a whole, and as it is spread over the processes."""
    training = task.config.training
    seed_everything(training.seed)
    model = task.build_model(device)
    model.activation_checkpointing = training.activation_checkpointing
    if checkpoint is not None:
        task.files.read(checkpoint, model)
    spread_model = spread(model, world, training, task.objective)
    optimizers = Optimizers(model, training, device)
    state = TrainingState(data_order=task.data_order)
    if checkpoint is not None:
        state = restore_progress(checkpoint, optimizers)
        check_resumable(checkpoint, state, task.data_order, training.max_steps)
    if state.scaler:
        precision.scaler.load_state_dict(state.scaler)
    if compile_wanted(task.config, device):
        for block in model.blocks:
            block.compile()
    return model, spread_model, optimizers, state


def _write_beginning(config: Settings, run: Path, state: TrainingState, world: World) -> None:
    """What the folder holds before the first step: settings and machine, and nothing from after the checkpoint that is gone back to."""
    write_atomically(run / "config.toml", run_config_to_toml(config))
    started = {"gpt_kit": __version__, "started_at": time.strftime("%Y-%m-%d %H:%M:%S %z")}
    write_json(run / "environment.json", {**started, "processes": world.size, **describe_machine()})
    set_aside_after(run, state.step)
    drop_samples_after(run, state.evaluated_step)


def _draw_curve(run: Path, config: Settings) -> None:
    """A curve that cannot be drawn must not hide how the run ended."""
    try:
        records = read_metrics(run / "metrics.jsonl")
        if len(points_of(records, "train/loss")) > 1:
            draw_loss_png(run / "loss.png", records, f"{run.name}: {count_model(config.model).total_parameters:,} parameters")
    except (OSError, GPTKitError) as error:
        note(f"{run}/loss.png is not drawn: {error}")


@contextmanager
def _locked(run: Path, world: World) -> Iterator[None]:
    """The folder is locked by the process that writes into it."""
    if not world.is_main:
        yield
        return
    with lock_folder(run):
        yield


def _by_full_name(config: Settings) -> dict[str, str]:
    """Every setting by its full name, for the processes of a run to compare."""
    sections = dataclasses.asdict(config).items()
    return {f"{section}.{name}": str(value) for section, values in sections for name, value in values.items()}


@contextmanager
def _observers(config: Settings, run: Path, state: TrainingState, world: World) -> Iterator[list[Observer]]:
    if not world.is_main:  # it alone writes and speaks
        yield []
        return
    observers: list[Observer] = [MetricsFile(run / "metrics.jsonl", state.step, state.evaluated_step)]
    try:
        for name in dict.fromkeys(config.logging.trackers):
            tracker = open_tracker(name, run, config.logging.project, dataclasses.asdict(config), state.step, note)
            observers += [tracker] if tracker is not None else []
        observers.append(LiveDisplay(state.step, config.training.max_steps))
        yield observers
    finally:
        for observer in reversed(observers):
            observer.close()
