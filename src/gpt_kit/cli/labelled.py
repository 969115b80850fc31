"""Classification: ClassifyRun -> the labelled texts as ids, and the model that is to judge them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
from collections.abc import Sequence
from pathlib import Path

import torch

from gpt_kit.cli.finetune import checked_length, findable, steps_of
from gpt_kit.cli.resume import with_micro_batch
from gpt_kit.cli.runs import Task, describe_model, start_run
from gpt_kit.config import ClassifyConfig, ClassifyRun, TrainingConfig
from gpt_kit.data import LabelledBatches, LabelledEvaluation, LabelledIds, LabelledTexts, read_labelled
from gpt_kit.errors import ConfigError, DataError
from gpt_kit.finetuning import (
    Classification,
    ClassifierFiles,
    balanced_weights,
    classifier_on,
    freeze,
    labelling_tokenizer,
    trainable_summary,
)
from gpt_kit.locate import locate_model
from gpt_kit.model import GPTClassifier, GPTModel
from gpt_kit.runtime import Precision, World, seed_everything
from gpt_kit.tokenizers import Tokenizer, load_tokenizer
from gpt_kit.training import Trainer

SHOWN = 2  # examples, before the first step
SHOWN_CHARACTERS = 200  # of each


def start_classification(config: ClassifyRun, run: Path, resume: str = "") -> tuple[Trainer, ClassifyTask]:
    """Learn the labels to the end. Raises as `start_run` does."""
    tasks: list[ClassifyTask] = []

    def prepare(checkpoint: Path | None, precision: Precision, device: torch.device, world: World) -> ClassifyTask:
        folder = locate_model(config.classify.base)
        tokenizer, pad_token_id = labelling_tokenizer(load_tokenizer(folder), config.classify.closing_token)
        base = GPTModel.from_pretrained(folder)
        base.resize_vocabulary(max(base.config.vocab_size, tokenizer.vocab_size))
        length = checked_length("classify", config.classify.max_length, base.config.max_position_embeddings)
        settings = dataclasses.replace(config.classify, max_length=length)
        train, val = read_texts(settings)
        seed_everything(config.training.seed)
        inner = None if settings.inner_dropout == "base" else settings.inner_dropout
        model = classifier_on(base, train.names, pad_token_id, settings.dropout, inner)
        training = _with_steps(settings, config.training, len(train))
        whole = dataclasses.replace(config, model=model.config, classify=findable(settings), training=training)
        whole = with_micro_batch(whole, run, checkpoint, precision, device, world)
        task = ClassifyTask(whole, tokenizer, model, train, val)
        world.agree({"texts": str(task.data_order["texts"])})
        tasks.append(task)
        return task

    return start_run(config, run, resume, prepare), tasks[0]


def read_texts(config: ClassifyConfig) -> tuple[LabelledTexts, LabelledTexts | None]:
    """Texts to learn from, and texts set aside. Raises: DataError where there are none of some label to learn from."""
    keys = {"text_key": config.text_key, "label_key": config.label_key}
    train = read_labelled(config.data, names=config.labels, **keys)
    val = read_labelled(config.val, names=train.names, **keys) if config.val else None
    if val is None and (number := round(len(train) * config.val_fraction)):
        aside = set(random.Random(config.split_seed).sample(range(len(train)), number))
        val = train.only(sorted(aside))
        train = train.only([i for i in range(len(train)) if i not in aside])
    if wanting := [name for name, count in zip(train.names, train.counts, strict=True) if not count]:
        raise DataError(f"{config.data}: no text to learn from has the label {', '.join(wanting)}. Add some, or leave the label out")
    return train, val


class ClassifyTask(Task):
    """The task of giving texts their labels."""

    config: ClassifyRun

    def __init__(
        self, config: ClassifyRun, tokenizer: Tokenizer, model: GPTClassifier, train: LabelledTexts, val: LabelledTexts | None
    ) -> None:
        self.config, self.tokenizer, self.model, self.train, self.val = config, tokenizer, model, train, val
        settings, training = config.classify, config.training
        self.train_ids = LabelledIds(train, tokenizer, settings.max_length)
        self.val_ids = None if val is None else LabelledIds(val, tokenizer, settings.max_length)
        self.objective = Classification(_label_weights(settings, train), settings.lm_weight)
        self.files = ClassifierFiles()
        digest = hashlib.sha256(json.dumps([self.train_ids.ids, train.labels]).encode()).hexdigest()
        self.data_order = {"texts": digest, "training.batch_size": training.batch_size, "training.seed": training.seed}

    def build_model(self, device: torch.device) -> GPTModel:
        """The base with a new head; what is frozen stays as it is."""
        if self.config.classify.freeze:
            freeze(self.model, self.config.classify.freeze)
        return self.model.to(device)

    def batches(self, device: torch.device) -> tuple[LabelledBatches, LabelledEvaluation | None, None]:
        """Texts of about one length together."""
        del device
        training, pad = self.config.training, self.pad_token_id
        train = LabelledBatches(self.train_ids, batch_size=training.batch_size, pad_token_id=pad, seed=training.seed)
        val = LabelledEvaluation(self.val_ids, batch_size=training.batch_size, pad_token_id=pad) if self.val_ids else None
        return train, val, None

    @property
    def pad_token_id(self) -> int:
        """What fills rows up."""
        assert self.model.pad_token_id is not None
        return self.model.pad_token_id

    def facts(self) -> list[str]:
        """What is trained on what, with a text or two."""
        train, ids, number = self.train, self.train_ids, len(self.train)
        shares = [f"{name} {count:,} ({count / number:.1%})" for name, count in zip(train.names, train.counts, strict=True)]
        lines = [
            describe_model(self.config.model),
            f"        {trainable_summary(self.model)}",
            f"text    {number:,} texts to learn from, {len(self.val or ()):,} to validate",
            f"        {ids.lengths.sum():,} tokens to learn from ({self.tokenizer.name}); the longest text has {ids.lengths.max():,}",
            f"labels  {', '.join(shares)}",
        ]
        if cut := ids.num_cut + (self.val_ids.num_cut if self.val_ids else 0):
            lines.append(f"note: {cut:,} texts are longer than {self.config.classify.max_length} tokens; their ends are not read")
        known = set(train.texts)
        if self.val and (leaked := sum(text in known for text in self.val.texts)):
            lines.append(f"note: {leaked:,} of {len(self.val):,} texts to validate on are also learned from: the figures flatter")
        for text, label in zip(train.texts[:SHOWN], train.labels, strict=False):
            lines.append(f"        {train.names[label]}: {text[:SHOWN_CHARACTERS]}")
        return lines

    def write_sample(self, *sample: object) -> None:
        """There is nothing to write."""


def _with_steps(config: ClassifyConfig, training: TrainingConfig, number: int) -> TrainingConfig:
    """As many steps as the epochs have batches, and the warm-up that is a share of them."""
    whole_batches = -(-number // training.batch_size) * training.batch_size
    steps: TrainingConfig = steps_of(config.epochs, whole_batches, training)
    return dataclasses.replace(steps, warmup_steps=training.warmup_steps or round(config.warmup_share * steps.max_steps))


def _label_weights(config: ClassifyConfig, train: LabelledTexts) -> Sequence[float]:
    if config.class_weights == "equal":
        return [1.0] * len(train.names)
    if config.class_weights == "balanced":
        return balanced_weights(train.counts)
    if len(config.class_weights) != len(train.names) or not all(weight > 0 for weight in config.class_weights):
        weights, names = ", ".join(map(str, config.class_weights)), ", ".join(train.names)
        raise ConfigError(
            f"classify.class_weights is {weights}; expected one number above 0 for each label ({names}), or 'equal' or 'balanced'"
        )
    return config.class_weights
