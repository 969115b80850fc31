"""Checkpoints: a Hugging Face folder, and beside it what only training needs.

    checkpoints/step-00000200/config.json model.safetensors tokenizer.json …   what transformers opens
    checkpoints/step-00000200/training_state/{state.json,optimizer.safetensors,random.safetensors}
    checkpoints/step-00000200/MANIFEST.json                                     SHA-256 of every file, written last
    checkpoints/{last,best}                                                     the name of a step folder

A folder appears whole (files.py) and only then does a pointer name it. The newest number is not trusted: what is resumed from is the
newest folder whose every file matches its manifest.
"""

from __future__ import annotations

import dataclasses
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpt_kit.errors import CheckpointError
from gpt_kit.files import (
    INCOMPLETE,
    atomic_folder,
    check_manifest,
    read_json,
    read_tensors,
    write_atomically,
    write_json,
    write_tensors,
)
from gpt_kit.model import GPTModel
from gpt_kit.runtime import ALONE, World, gather, random_state, restore_random_state
from gpt_kit.tokenizers import Tokenizer
from gpt_kit.training.optimizers import Optimizers
from gpt_kit.training.parallel import gather_weights
from gpt_kit.weights import load_weights, save_weights

STATE_FOLDER = "training_state"


@dataclass
class TrainingState:
    """Everything that must survive, beside weights, optimizer state and random states. Batches are a function of `step`."""

    step: int = 0
    """Steps done: the cursor into the data."""
    updates: int = 0
    """Steps that changed the weights: the clock of the learning rate."""
    tokens_seen: int = 0
    """Tokens read in training."""
    evaluated_step: int = 0
    """The last step that was evaluated; a stop may fall between a step and its evaluation."""
    best_step: int = 0
    """The step with the lowest validation loss so far; 0 for none."""
    best_val_loss: float | None = None
    """That loss, in nats per token."""
    skipped_updates: int = 0
    """Updates in a row that were skipped because they were not finite."""
    elapsed_seconds: float = 0.0
    """Time spent in training, over all sessions of the run."""
    data_order: dict[str, Any] = field(default_factory=dict)
    """What decides which windows a step reads, by setting; another value would replay some text and skip other."""
    scaler: dict[str, Any] = field(default_factory=dict)
    """The fp16 loss scale; empty otherwise."""


def checkpoint_folder(run: Path, step: int) -> Path:
    """Where the checkpoint of `step` lies."""
    return run / "checkpoints" / f"step-{step:08d}"


def save_checkpoint(
    run: Path, model: GPTModel, optimizers: Optimizers, state: TrainingState, tokenizer: Tokenizer, world: World = ALONE
) -> Path:
    """Write the checkpoint of `state.step`, then let `last` (and `best`, if it is the best) name it.

    Of several processes all must call, and the main one writes, in whole tensors.
    """
    folder = checkpoint_folder(run, state.step)
    weights = gather_weights(model, world)
    moments = gather(optimizers.state_tensors(), keep=world.is_main)
    if not world.is_main:
        return folder
    with atomic_folder(folder) as temporary:
        save_weights(temporary, model.config, weights, end_of_text_id=tokenizer.end_of_text_id)
        tokenizer.save(temporary)
        training = temporary / STATE_FOLDER
        training.mkdir()
        write_json(training / "state.json", dataclasses.asdict(state))
        write_tensors(training / "optimizer.safetensors", moments)
        write_tensors(training / "random.safetensors", random_state())
    write_atomically(run / "checkpoints" / "last", folder.name + "\n")
    point_to_best(run, state.best_step)
    return folder


def point_to_best(run: Path, best_step: int) -> None:
    """Let `best` name the checkpoint of the best step, if there is one."""
    folder = checkpoint_folder(run, best_step)
    if folder.is_dir():
        write_atomically(run / "checkpoints" / "best", folder.name + "\n")


def restore_checkpoint(folder: Path, model: GPTModel, optimizers: Optimizers) -> TrainingState:
    """Put weights, optimizer state and random states back. Every file is checked first.

    Raises: CheckpointError for damage, or for a checkpoint of another model.
    """
    restore_weights(folder, model)
    return restore_progress(folder, optimizers)


def restore_weights(folder: Path, model: GPTModel) -> None:
    """The first half of `restore_checkpoint`, for a model that is yet to be spread over several processes."""
    check_manifest(folder)
    weights = load_weights(folder)
    if weights.config != model.config:
        changed = [
            f"{f.name} is {getattr(model.config, f.name)}, was {getattr(weights.config, f.name)}"
            for f in dataclasses.fields(weights.config)
            if getattr(model.config, f.name) != getattr(weights.config, f.name)
        ]
        raise CheckpointError(f"{folder}: the run was started with another model ({'; '.join(changed)}). Resume with the same settings")
    model.load_tensors(weights.tensors)


def restore_progress(folder: Path, optimizers: Optimizers) -> TrainingState:
    """The second half, once the optimizers have the parameters that they are to train."""
    training = folder / STATE_FOLDER
    optimizers.load_state_tensors(read_tensors(training / "optimizer.safetensors"))
    restore_random_state(read_tensors(training / "random.safetensors"))
    return TrainingState(**read_json(training / "state.json"))


def checkpoints_newest_first(run: Path) -> list[Path]:
    """All finished-looking checkpoint folders of a run; whether they are sound is `check_manifest`'s to say."""
    return sorted((run / "checkpoints").glob("step-*"), reverse=True)


def newest_sound_checkpoint(run: Path) -> tuple[Path | None, list[str]]:
    """The newest checkpoint whose files all match their manifest, and a line about each newer one that does not."""
    damaged = []
    for folder in checkpoints_newest_first(run):
        try:
            check_manifest(folder)
        except CheckpointError as error:
            damaged.append(str(error))
            continue
        return folder, damaged
    return None, damaged


def prune_checkpoints(run: Path, keep: int, step: int, best_step: int) -> None:
    """Delete all but the newest `keep` checkpoints and the best one, and what a kill left half-written.

    Checkpoints from after `step` belong to a past that the run went back from: they are set aside as `abandoned-…`, not deleted.
    """
    current, best = checkpoint_folder(run, step), checkpoint_folder(run, best_step)
    folders = checkpoints_newest_first(run)
    for folder in folders:
        if folder.name > current.name:
            shutil.rmtree(folder.with_name(f"abandoned-{folder.name}"), ignore_errors=True)
            folder.rename(folder.with_name(f"abandoned-{folder.name}"))
    for folder in [folder for folder in folders if folder.name <= current.name][keep:]:
        if folder != best:
            doomed = folder.with_name(f"{INCOMPLETE}{folder.name}")
            folder.rename(doomed)  # first out of sight, so that a kill in mid-deletion leaves nothing that looks whole
            shutil.rmtree(doomed)
    for leftover in (run / "checkpoints").glob(f"{INCOMPLETE}*"):
        shutil.rmtree(leftover, ignore_errors=True)
