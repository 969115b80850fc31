"""RunConfig -> the finished parts of a run. Everything that can be wrong is found here, before the first step."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from gpt_kit.cli.display import LiveDisplay, PrepareDisplay, console
from gpt_kit.config import PRESETS, ModelConfig, RunConfig, run_config_to_toml
from gpt_kit.data import Corpus, EvaluationBatches, TrainingBatches, is_corpus, open_corpus, prepare_corpus
from gpt_kit.errors import CheckpointError, ConfigError, DataError
from gpt_kit.files import lock_folder, write_atomically, write_json
from gpt_kit.generation import encode_prompt
from gpt_kit.model import GPTModel, count_model
from gpt_kit.runtime import StopRequest, choose_device, choose_precision, describe_machine, keep_freed_memory, seed_everything
from gpt_kit.tokenizers import Tokenizer, check_same_tokenizer, load_tokenizer
from gpt_kit.training import (
    MetricsFile,
    Observer,
    Optimizers,
    TensorBoardTracker,
    Trainer,
    TrainingState,
    draw_loss_png,
    newest_sound_checkpoint,
    points_of,
    read_metrics,
    restore_checkpoint,
)
from gpt_kit.version import __version__

CONTIGUOUS_WARNING = (
    "validation is the end of the same text: it tells how well the model continues this text, not how well it does on others"
)
STEPS_WORTH_COMPILING = 500


def train_run(config: RunConfig, run: Path, resume: str = "") -> Trainer:
    """Assemble the run and train it to the end. Raises what the kit raises; the folder is locked meanwhile."""
    keep_freed_memory()
    device = choose_device(config.training.device)
    precision = choose_precision(config.training.precision, device)
    with lock_folder(run):
        checkpoint = _checkpoint_to_resume(run, resume)
        corpus = open_or_prepare(config, run)
        config = dataclasses.replace(config, model=with_vocabulary(config.model, corpus.tokenizer))
        encode_prompt(config.evaluation.prompt, corpus.tokenizer)  # a prompt that cannot be spelled is found now, not at the first sample
        if checkpoint is not None:
            check_same_tokenizer(corpus.tokenizer, load_tokenizer(checkpoint).fingerprint, str(corpus.folder))
        seed_everything(config.training.seed)
        model = GPTModel(config.model).to(device)
        model.activation_checkpointing = config.training.activation_checkpointing
        optimizers = Optimizers(model, config.training, device)
        train_batches, val_batches, whole_val_batches = _batches(config, corpus)
        state = restore_checkpoint(checkpoint, model, optimizers) if checkpoint else TrainingState()
        if state.scaler:
            precision.scaler.load_state_dict(state.scaler)
        if config.training.compile == "on" or (config.training.compile == "auto" and _compiling_pays(config, device)):
            for block in model.blocks:
                block.compile()
        write_atomically(run / "config.toml", run_config_to_toml(config))
        write_json(
            run / "environment.json",
            {"gpt_kit": __version__, "started_at": time.strftime("%Y-%m-%d %H:%M:%S %z"), **describe_machine()},
        )
        _announce(config, corpus, device, precision.name, state, checkpoint)
        with StopRequest() as stop, _observers(config, run, state) as observers:
            trainer = Trainer(
                run, config, model, optimizers, train_batches, val_batches, whole_val_batches,
                corpus.tokenizer, device, precision, observers, state, stop,
            )  # fmt: skip
            try:
                trainer.fit()
            finally:
                records = read_metrics(run / "metrics.jsonl")
                if len(points_of(records, "train/loss")) > 1:
                    draw_loss_png(run / "loss.png", records, f"{run.name}: {count_model(config.model).total_parameters:,} parameters")
    return trainer


def open_or_prepare(config: RunConfig, run: Path) -> Corpus:
    """The corpus that `data.source` names; raw text is prepared once, into the run's own folder."""
    if is_corpus(run / "corpus"):
        return open_corpus(run / "corpus")
    if not config.data.source:
        raise ConfigError("no text to train on: name a prepared corpus or raw text with --data (or [data] source in the TOML file)")
    if is_corpus(Path(config.data.source)):
        return open_corpus(Path(config.data.source))
    with PrepareDisplay() as progress:
        corpus = prepare_corpus(config.data.source, run / "corpus", config.data, progress)
    if corpus.info["split"] == "contiguous" and len(corpus.val):
        console.print(f"[yellow]note:[/] {CONTIGUOUS_WARNING}")
    return corpus


def with_vocabulary(model: ModelConfig, tokenizer: Tokenizer) -> ModelConfig:
    """The model's shape with the tokenizer's vocabulary. Raises: ConfigError when another size was asked for."""
    published = {ModelConfig().vocab_size, *(preset["vocab_size"] for preset in PRESETS.values() if "vocab_size" in preset)}
    if model.vocab_size not in published | {tokenizer.vocab_size}:
        raise ConfigError(
            f"model.vocab_size is {model.vocab_size}, but the tokenizer {tokenizer.name!r} has {tokenizer.vocab_size} entries. "
            "Leave it out: it is taken from the tokenizer (model.vocab_multiple pads it)"
        )
    return dataclasses.replace(model, vocab_size=tokenizer.vocab_size)


def _checkpoint_to_resume(run: Path, resume: str) -> Path | None:
    existing = (run / "checkpoints").is_dir() and any((run / "checkpoints").glob("step-*"))
    if not resume:
        if existing:
            raise CheckpointError(f"{run}: this folder already holds a run. Go on with it by --resume auto, or choose another --out")
        return None
    if resume != "auto":
        return Path(resume)
    checkpoint, damaged = newest_sound_checkpoint(run)
    for line in damaged:
        console.print(f"[yellow]note:[/] {line}")
    if checkpoint is None and damaged:
        raise CheckpointError(f"{run}: none of its {len(damaged)} checkpoints is sound. Start anew in another --out")
    return checkpoint


def _batches(config: RunConfig, corpus: Corpus) -> tuple[TrainingBatches, EvaluationBatches | None, EvaluationBatches | None]:
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
        rows = training.micro_batch_size or training.batch_size
        return EvaluationBatches(
            corpus.val,
            length=length,
            batch_size=rows,
            stride=evaluation.stride,
            max_tokens=max_tokens,
            document_separator=separator,
        )

    # A forward pass costs a third of a training step, so this many tokens take `time_share` of the time between two evaluations.
    affordable = int(3 * evaluation.time_share * evaluation.interval * training.batch_size * length)
    part = max(affordable, length)
    return train, evaluate_on(part), evaluate_on(0) if part < len(corpus.val) - 1 else None


def _compiling_pays(config: RunConfig, device: torch.device) -> bool:
    return device.type == "cuda" and config.training.max_steps >= STEPS_WORTH_COMPILING


@contextmanager
def _observers(config: RunConfig, run: Path, state: TrainingState) -> Iterator[list[Observer]]:
    makers: list[Callable[[], Observer]] = [lambda: MetricsFile(run / "metrics.jsonl", state.step)]
    if config.logging.tensorboard:
        makers.append(lambda: TensorBoardTracker(run / "tensorboard", state.step))
    makers.append(lambda: LiveDisplay(state.step, config.training.max_steps))
    observers: list[Observer] = []
    try:
        for make in makers:
            observers.append(make())
        yield observers
    finally:
        for observer in reversed(observers):
            observer.close()


def _announce(
    config: RunConfig, corpus: Corpus, device: torch.device, precision: str, state: TrainingState, checkpoint: Path | None
) -> None:
    model, training = config.model, config.training
    parameters = count_model(model).total_parameters
    console.print(
        f"model   {parameters:,} parameters: {model.n_layer} layers of width {model.n_embd}, context {model.max_position_embeddings}"
    )
    console.print(
        f"text    {len(corpus.train):,} tokens to train on, {len(corpus.val):,} to validate "
        f"({corpus.tokenizer.name}, {model.vocab_size:,} entries)"
    )
    tokens = training.max_steps * training.batch_size * model.max_position_embeddings
    console.print(f"run     {training.max_steps:,} steps, {tokens:,} tokens, {training.optimizer}, {precision} on {device}")
    if checkpoint is not None:
        console.print(f"resumed from {checkpoint} at step {state.step}")
