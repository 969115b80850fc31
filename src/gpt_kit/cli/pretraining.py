"""Pre-training: RunConfig -> the text, the windows over it, and the model that reads them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from gpt_kit.cli.resume import data_order, with_micro_batch
from gpt_kit.cli.runs import Task, describe_model, start_run
from gpt_kit.cli.text import corpus_of, note_foreign_tokenizer, with_vocabulary
from gpt_kit.config import RunConfig
from gpt_kit.data import Corpus, EvaluationBatches, TrainingBatches, absolute_source
from gpt_kit.errors import DataError
from gpt_kit.generation import encode_prompt
from gpt_kit.model import GPTModel
from gpt_kit.runtime import Precision, World
from gpt_kit.tokenizers import check_same_tokenizer, load_tokenizer
from gpt_kit.training import Trainer, micro_batch_rows

FORWARDS_PER_STEP = (
    2.5  # what a training step costs, in evaluating forward passes: 3 by arithmetic (Kaplan et al. 2020, section 2.1), less a reserve
)


def train_run(config: RunConfig, run: Path, resume: str = "", corpus: Corpus | None = None) -> Trainer:
    """Pre-train to the end, on `corpus` if its text is prepared already. Raises as `start_run` does."""

    def prepare(checkpoint: Path | None, precision: Precision, device: torch.device, world: World) -> Pretraining:
        whole, text = _with_text(config, run, checkpoint, corpus, world)
        return Pretraining(with_micro_batch(whole, run, checkpoint, precision, device, world), text)

    return start_run(config, run, resume, prepare)


class Pretraining(Task):
    """The task of predicting the next token of a text, from new weights on."""

    config: RunConfig

    def __init__(self, config: RunConfig, corpus: Corpus) -> None:
        self.config, self.corpus, self.tokenizer = config, corpus, corpus.tokenizer
        self.data_order = data_order(config, corpus)

    def build_model(self, device: torch.device) -> GPTModel:
        """Newly drawn weights."""
        return GPTModel(self.config.model).to(device)

    def batches(self, device: torch.device) -> tuple[TrainingBatches, EvaluationBatches | None, EvaluationBatches | None]:
        """Windows over the text."""
        return make_batches(self.config, self.corpus, device)

    def facts(self) -> list[str]:
        """The model's shape and the text's size."""
        corpus = self.corpus
        text = f"text    {len(corpus.train):,} tokens to train on, {len(corpus.val):,} to validate "
        return [describe_model(self.config.model), f"{text}({corpus.tokenizer.name}, {self.config.model.vocab_size:,} entries)"]


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
