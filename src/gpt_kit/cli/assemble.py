"""RunConfig -> the finished parts of a run. Everything that can be wrong is found here, before the first step."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from gpt_kit.cli.display import LiveDisplay, console, note
from gpt_kit.cli.resume import check_resumable, checkpoint_to_resume, data_order
from gpt_kit.cli.text import corpus_of, note_foreign_tokenizer, with_vocabulary
from gpt_kit.config import RunConfig, run_config_to_toml
from gpt_kit.data import Corpus, EvaluationBatches, TrainingBatches, absolute_source
from gpt_kit.errors import DataError, GPTKitError
from gpt_kit.files import lock_folder, write_atomically, write_json
from gpt_kit.generation import encode_prompt
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
    keep_freed_memory,
    seed_everything,
    start_world,
)
from gpt_kit.tokenizers import check_same_tokenizer, load_tokenizer
from gpt_kit.training import (
    WHOLE_MODEL,
    MetricsFile,
    Observer,
    Optimizers,
    Trainer,
    TrainingState,
    checkpoint_folder,
    draw_loss_png,
    drop_samples_after,
    micro_batch_rows,
    open_tracker,
    points_of,
    read_metrics,
    restore_progress,
    save_checkpoint,
    set_aside_after,
    spread,
    with_fitting_micro_batch,
)
from gpt_kit.version import __version__

STEPS_WORTH_COMPILING = 500
FORWARDS_PER_STEP = (
    2.5  # what a training step costs, in evaluating forward passes: 3 by arithmetic (Kaplan et al. 2020, section 2.1), less a reserve
)


def train_run(config: RunConfig, run: Path, resume: str = "", corpus: Corpus | None = None) -> Trainer:
    """Assemble the run and train it to the end, on `corpus` if its text is prepared already.

    Raises what the kit raises; the folder is locked meanwhile. Of several processes, each calls this and the main one writes.
    """
    keep_freed_memory()
    device = choose_device(config.training.device)
    precision = choose_precision(config.training.precision, device)
    with start_world(device, config.training.rank_timeout_seconds) as world, _locked(run, world):
        console.quiet = not world.is_main
        versions = {"version of gpt_kit": __version__, "version of torch": torch.__version__}
        world.agree({**versions, "--out": str(run), "--resume": resume or "none", **_settings(config)})
        checkpoint = checkpoint_to_resume(run, resume, world)
        config, corpus = _with_text(config, run, checkpoint, corpus, world)
        config = with_fitting_micro_batch(config, precision, device, world)
        model, spread_model, optimizers, state = _model_and_state(config, corpus, checkpoint, precision, device, world)
        batches = make_batches(config, corpus, device)
        if checkpoint is not None and checkpoint.resolve() != checkpoint_folder(run, state.step).resolve():
            save_checkpoint(run, model, optimizers, state, corpus.tokenizer, world)  # another run's, and from here on this one's too
        if world.is_main:
            _write_beginning(config, run, state, world)
        _announce(config, corpus, device, precision.name, world)
        if checkpoint is not None:
            console.print(f"resumed from {checkpoint} at step {state.step}")
        with StopRequest() as stop, _observers(config, run, state, world) as observers:
            trainer = Trainer(
                run, config, model, optimizers, *batches,
                corpus.tokenizer, device, precision, observers, state, stop, world, spread_model,
            )  # fmt: skip
            try:
                trainer.fit()
            finally:
                if world.is_main:
                    _draw_curve(run, config)
    return trainer


def _with_text(config: RunConfig, run: Path, checkpoint: Path | None, corpus: Corpus | None, world: World) -> tuple[RunConfig, Corpus]:
    """The text, prepared if need be, and the settings with what it decides. Raises what does not fit it."""
    with world.main_first():  # which prepares raw text and compares shards with their hashes; the others find it done
        data = dataclasses.replace(config.data, verify=config.data.verify and world.is_main)
        resuming = checkpoint is not None or not world.is_main
        corpus = corpus or corpus_of(dataclasses.replace(config, data=data), run, resuming=resuming)
    world.agree({"text": corpus.fingerprint})
    note_foreign_tokenizer(config.model, corpus.tokenizer)
    encode_prompt(config.evaluation.prompt, corpus.tokenizer)  # a prompt that cannot be spelled is found now, not at the first sample
    if checkpoint is not None:
        check_same_tokenizer(corpus.tokenizer, load_tokenizer(checkpoint).fingerprint, str(corpus.folder))
    data = dataclasses.replace(config.data, source=absolute_source(config.data.source))  # to be found from any folder
    return dataclasses.replace(config, model=with_vocabulary(config.model, corpus.tokenizer), data=data), corpus


def _model_and_state(
    config: RunConfig, corpus: Corpus, checkpoint: Path | None, precision: Precision, device: torch.device, world: World
) -> tuple[GPTModel, nn.Module | None, Optimizers, TrainingState]:
    """New weights and a new state, or those of the checkpoint; the model as a whole, and as it is spread over the processes."""
    seed_everything(config.training.seed)
    model = GPTModel(config.model).to(device)
    model.activation_checkpointing = config.training.activation_checkpointing
    if checkpoint is not None:
        WHOLE_MODEL.read(checkpoint, model)
    spread_model = spread(model, world, config.training)
    optimizers = Optimizers(model, config.training, device)
    order = data_order(config, corpus)
    state = TrainingState(data_order=order)
    if checkpoint is not None:
        state = restore_progress(checkpoint, optimizers)
        check_resumable(checkpoint, state, order, config.training.max_steps)
    if state.scaler:
        precision.scaler.load_state_dict(state.scaler)
    if compile_wanted(config, device):
        for block in model.blocks:
            block.compile()
    return model, spread_model, optimizers, state


def _write_beginning(config: RunConfig, run: Path, state: TrainingState, world: World) -> None:
    """What the folder holds before the first step: settings and machine, and nothing from after the checkpoint that is gone back to."""
    write_atomically(run / "config.toml", run_config_to_toml(config))
    started = {"gpt_kit": __version__, "started_at": time.strftime("%Y-%m-%d %H:%M:%S %z")}
    write_json(run / "environment.json", {**started, "processes": world.size, **describe_machine()})
    set_aside_after(run, state.step)
    drop_samples_after(run, state.evaluated_step)


def _draw_curve(run: Path, config: RunConfig) -> None:
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


def _settings(config: RunConfig) -> dict[str, str]:
    """Every setting by its full name, for the processes of a run to compare."""
    sections = dataclasses.asdict(config).items()
    return {f"{section}.{name}": str(value) for section, values in sections for name, value in values.items()}


def free_folder(wanted: Path) -> Path:
    """`wanted`, or the first of wanted-2, wanted-3 … that does not exist."""
    number, folder = 2, wanted
    while folder.exists():
        folder, number = wanted.with_name(f"{wanted.name}-{number}"), number + 1
    return folder


def evaluation_tokens(config: RunConfig) -> int:
    """How many tokens take the evaluation's share of the time between two of them; at least one window."""
    training, evaluation, length = config.training, config.evaluation, config.model.max_position_embeddings
    return max(int(FORWARDS_PER_STEP * evaluation.time_share * evaluation.interval * training.batch_size * length), length)


def make_batches(
    config: RunConfig, corpus: Corpus, device: torch.device
) -> tuple[TrainingBatches, EvaluationBatches | None, EvaluationBatches | None]:
    """Training batches, the fixed part of the validation text, and all of it where that is more."""
    data, training, evaluation, length = config.data, config.training, config.evaluation, config.model.max_position_embeddings
    separator = corpus.tokenizer.end_of_text_id if data.document_mask else None
    if data.document_mask and separator is None:
        raise DataError(f"data.document_mask needs a tokenizer with an end token; {corpus.tokenizer.name!r} has none. Switch it off")
    train = TrainingBatches(
        corpus.train,
        length=length,
        batch_size=training.batch_size,
        seed=training.seed,
        stride=data.stride,
        order=data.windows,
        document_separator=separator,
    )
    if len(corpus.val) < 2:
        return train, None, None

    def evaluate_on(max_tokens: int) -> EvaluationBatches:
        return EvaluationBatches(
            corpus.val,
            length=length,
            batch_size=micro_batch_rows(config, device),
            stride=evaluation.stride,
            max_tokens=max_tokens,
            document_separator=separator,
        )

    part = evaluation_tokens(config)
    return train, evaluate_on(part), evaluate_on(0) if part < len(corpus.val) - 1 else None


def compile_wanted(config: RunConfig, device: torch.device) -> bool:
    """Raises: DeviceError where compiling is asked for and cannot be had."""
    if config.training.compile == "on":
        check_can_compile()
    pays = device.type == "cuda" and config.training.max_steps >= STEPS_WORTH_COMPILING and can_compile()
    return config.training.compile == "on" or (config.training.compile == "auto" and pays)


@contextmanager
def _observers(config: RunConfig, run: Path, state: TrainingState, world: World) -> Iterator[list[Observer]]:
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


def _announce(config: RunConfig, corpus: Corpus, device: torch.device, precision: str, world: World) -> None:
    model, training = config.model, config.training
    parameters = count_model(model).total_parameters
    console.print(
        f"model   {parameters:,} parameters: n_layer {model.n_layer}, n_embd {model.n_embd}, n_head {model.n_head}, "
        f"context {model.max_position_embeddings}"
    )
    console.print(
        f"text    {len(corpus.train):,} tokens to train on, {len(corpus.val):,} to validate "
        f"({corpus.tokenizer.name}, {model.vocab_size:,} entries)"
    )
    tokens = training.max_steps * training.batch_size * model.max_position_embeddings
    processes = f", {world.size} processes ({training.parallel})" if world.size > 1 else ""
    console.print(f"run     {training.max_steps:,} steps, {tokens:,} tokens, {training.optimizer}, {precision} on {device}{processes}")
