"""Which checkpoint a run goes on from, and what may not change on the way: a run reads one text in one order."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, TypeVar

import torch

from gpt_kit.cli.display import note
from gpt_kit.config import RunConfig, Settings, load_config
from gpt_kit.data import Corpus
from gpt_kit.errors import CheckpointError, ConfigError
from gpt_kit.locate import run_of, step_folders
from gpt_kit.runtime import Precision, World
from gpt_kit.training import TrainingState, check_checkpoint, newest_sound_checkpoint, with_fitting_micro_batch

Run = TypeVar("Run", bound=Settings)


def checkpoint_to_resume(run: Path, resume: str, world: World) -> Path | None:
    """The checkpoint that `resume` means, all of whose files match their manifest; None for a new run.

    Raises: CheckpointError where there is no such checkpoint or it is damaged.
    """
    if world.is_main:
        _refuse_misunderstanding(run, resume)
    if not resume:
        return None
    if resume != "auto":
        check_checkpoint(Path(resume), world)
        return Path(resume)
    checkpoint, damaged = newest_sound_checkpoint(run, world)
    for line in damaged:
        note(line)
    if checkpoint is not None and damaged:
        note(f"{checkpoint.name} is the newest sound checkpoint; the run goes on from there")
    if checkpoint is None and damaged:
        raise CheckpointError(f"{run}: none of its {len(damaged)} checkpoints is sound. Start anew in another --out")
    return checkpoint


def _refuse_misunderstanding(run: Path, resume: str) -> None:
    if not resume and step_folders(run):
        raise CheckpointError(f"{run}: this folder already holds a run. Go on with it by --resume auto, or choose another --out")
    if resume in ("", "auto"):
        return
    if not Path(resume).is_dir():
        raise CheckpointError(f"--resume {resume}: there is no such folder. Name one of {run}/checkpoints, or 'auto' for the newest")
    if run_of(Path(resume)):
        raise CheckpointError(f"--resume {resume}: this is a run; name one of its checkpoints, or 'auto' for the newest of --out")


def data_order(config: RunConfig, corpus: Corpus) -> dict[str, object]:
    """Whatever decides which windows a step reads."""
    data, training = config.data, config.training
    return {
        "corpus": corpus.fingerprint,
        "data.windows": data.windows,
        "data.stride": data.stride,
        "data.document_mask": data.document_mask,
        "training.batch_size": training.batch_size,
        "training.seed": training.seed,
    }


def with_micro_batch(config: Run, run: Path, checkpoint: Path | None, precision: Precision, device: torch.device, world: World) -> Run:
    """`training.micro_batch_size` "auto" -> the number that fits, found when the run starts.

    Said again on resuming, it is the number of the start: with another one, dropout is drawn otherwise.
    """
    own = run / "config.toml"
    if config.training.micro_batch_size != "auto" or checkpoint is None:
        return with_fitting_micro_batch(config, precision, device, world)
    found = world.from_main(str(load_config(type(config), own).training.micro_batch_size) if world.is_main and own.is_file() else "auto")
    if found == "auto":
        return with_fitting_micro_batch(config, precision, device, world)
    return dataclasses.replace(config, training=dataclasses.replace(config.training, micro_batch_size=int(found)))


def check_resumable(checkpoint: Path, state: TrainingState, order: dict[str, object], max_steps: int) -> None:
    refuse_changes(state.data_order, order, "", f"{checkpoint}: a run reads its text in one order")
    if state.step > max_steps:
        raise ConfigError(f"{checkpoint}: step {state.step} is past --training.max-steps {max_steps}. Give a higher number to go on")
    if state.step == max_steps:
        note(f"step {state.step} of {max_steps} is reached already; to go on, give a higher --training.max-steps")


def refuse_changes(had: dict[str, Any], wanted: dict[str, Any], prefix: str, rule: str) -> None:
    changes = [f"{prefix}{name} is {wanted[name]!r}, was {had.get(name)!r}" for name in wanted if had.get(name) != wanted[name]]
    if changes:
        raise ConfigError(f"{rule} from its first step to its last; {'; '.join(changes)}. Resume with what it was, or start another --out")
