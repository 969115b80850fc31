"""Checkpoints: a Hugging Face folder, and beside it what only training needs.

    checkpoints/step-00000200/config.json model.safetensors tokenizer.json …   what transformers opens
    checkpoints/step-00000200/training_state/{state.json,optimizer.safetensors,random.safetensors}
    checkpoints/step-00000200/MANIFEST.json                                     SHA-256 of every file, written last
    checkpoints/{last,best}                                                     the name of a step folder

A folder appears whole (files.py) and only then does a pointer name it. The newest number is not trusted: what is resumed from is the
newest folder whose every file matches its manifest. Every process compares what it is going to read, all at the same time and once.
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
    MANIFEST,
    atomic_folder,
    check_manifest,
    read_json,
    read_tensors,
    sha256_of_file,
    write_atomically,
    write_json,
    write_tensors,
)
from gpt_kit.locate import pointed_to, step_folders
from gpt_kit.model import GPTModel
from gpt_kit.runtime import ALONE, World, drop_gathered, gather, random_state, restore_random_state
from gpt_kit.tokenizers import Tokenizer
from gpt_kit.training.files import WHOLE_MODEL, ModelFiles
from gpt_kit.training.optimizers import Optimizers

STATE_FOLDER = "training_state"
SMALL_FILES_BYTES = 4_000_000  # tokenizer, configuration, random states, state


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
    """The best step so far, by the objective's judgement (of a language model the lowest validation loss); 0 for none."""
    best_val_loss: float | None = None
    """Its validation loss, in nats per token or text."""
    best_misfit: float | None = None
    """What that judgement found, the lower the better; None where it is the loss."""
    skipped_updates: int = 0
    """Updates in a row that were skipped, not finite or spikes."""
    losses: list[float] = field(default_factory=list)
    """The last accepted losses, oldest first, where spikes are skipped."""
    grad_norms: list[float] = field(default_factory=list)
    """The gradient norms that belong to them."""
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
    run: Path,
    model: GPTModel,
    optimizers: Optimizers,
    state: TrainingState,
    tokenizer: Tokenizer,
    world: World = ALONE,
    files: ModelFiles = WHOLE_MODEL,
) -> Path:
    """Write the checkpoint of `state.step`, then let `last` (and `best`, if it is the best) name it.

    Of several processes all must call, and the main one writes, in whole tensors. Raises: DiskFullError, in the main one, with the
    bytes needed and free; earlier checkpoints are then as they were.
    """
    folder = checkpoint_folder(run, state.step)
    drop_gathered(model)
    weights = gather(files.tensors(model), keep=world.is_main)
    moments = gather(optimizers.state_tensors(), keep=world.is_main)
    if not world.is_main:
        return folder
    _delete_leftovers(run)  # a full disk may be full of them
    needed = sum(tensor.nbytes for tensor in [*weights.values(), *moments.values()])
    with atomic_folder(folder, needed_bytes=needed + SMALL_FILES_BYTES) as temporary:
        files.write(temporary, model, weights, tokenizer.end_of_text_id)
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


def restore_checkpoint(folder: Path, model: GPTModel, optimizers: Optimizers, files: ModelFiles = WHOLE_MODEL) -> TrainingState:
    """Put weights, optimizer state and random states back. Every file is checked first.

    Raises: CheckpointError for damage, or for a checkpoint of another model.
    """
    check_checkpoint(folder)
    files.read(folder, model)
    return restore_progress(folder, optimizers)


def check_checkpoint(folder: Path, world: World = ALONE) -> None:
    """Compare every file with its manifest, in every process: it reads them by itself, maybe on another machine.

    Raises: CheckpointError, in all of them, where one finds damage; ConfigError where the folder holds another checkpoint for some.
    """
    problem = ""
    try:
        check_manifest(folder)
    except CheckpointError as error:
        problem = str(error) if world.is_main else f"rank {world.rank}: {error}"
    if told := world.from_anybody(problem):
        raise CheckpointError(told)
    world.agree({str(folder): sha256_of_file(folder / MANIFEST)[:8]})


def restore_progress(folder: Path, optimizers: Optimizers) -> TrainingState:
    """What is not weights, once the optimizers have the parameters that they are to train."""
    training = folder / STATE_FOLDER
    optimizers.load_state_tensors(read_tensors(training / "optimizer.safetensors"))
    restore_random_state(read_tensors(training / "random.safetensors"))
    try:
        return TrainingState(**read_json(training / "state.json"))
    except TypeError as error:
        raise CheckpointError(f"{folder}: its state.json is of another version of gpt_kit ({error}). Go on with that version") from None


def newest_sound_checkpoint(run: Path, world: World = ALONE) -> tuple[Path | None, list[str]]:
    """The newest checkpoint whose files all match their manifest, for every process, and a line about each newer one that does not."""
    damaged = []
    for folder in map(Path, world.from_main("\n".join(map(str, step_folders(run)))).splitlines()):
        try:
            check_checkpoint(folder, world)
        except CheckpointError as error:
            damaged.append(str(error))
            continue
        return folder, damaged
    return None, damaged


def prune_checkpoints(run: Path, keep: int, best_step: int) -> None:
    """Delete all but the newest `keep` checkpoints and the best one, and what a kill left half-written."""
    best = {checkpoint_folder(run, best_step), pointed_to(run, "best")}
    for folder in step_folders(run)[keep:]:
        if folder not in best:
            doomed = folder.with_name(f"{INCOMPLETE}{folder.name}")
            folder.rename(doomed)  # first out of sight, so that a kill in mid-deletion leaves nothing that looks whole
            shutil.rmtree(doomed)
    _delete_leftovers(run)


def set_aside_after(run: Path, step: int) -> None:
    """Rename checkpoints of later steps to `abandoned-…`: they belong to a past that the run went back from."""
    for folder in step_folders(run):
        if folder.name > checkpoint_folder(run, step).name:
            abandoned = folder.with_name(f"abandoned-{folder.name}")
            shutil.rmtree(abandoned, ignore_errors=True)
            folder.rename(abandoned)


def _delete_leftovers(run: Path) -> None:
    for leftover in [*run.glob(f"{INCOMPLETE}*"), *(run / "checkpoints").glob(f"{INCOMPLETE}*")]:
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)
