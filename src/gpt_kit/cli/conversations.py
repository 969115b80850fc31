"""Supervised fine-tuning: SftRun -> the conversations as examples, and the model that is to learn them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
from pathlib import Path
from typing import Any

import torch
from rich.text import Text

from gpt_kit.cli.display import note
from gpt_kit.cli.finetune import checked_length, findable, steps_of
from gpt_kit.cli.resume import with_micro_batch
from gpt_kit.cli.runs import Task, describe_model, start_run
from gpt_kit.config import SftConfig, SftRun
from gpt_kit.data import Conversation, Example, ExampleBatches, ExampleEvaluation, read_conversations
from gpt_kit.data.sources import Source
from gpt_kit.errors import DataError
from gpt_kit.finetuning import AdapterFiles, add_lora, encode_conversations, freeze, refuse_unusable, trainable_summary, write_answers
from gpt_kit.locate import locate_model
from gpt_kit.model import GPTModel
from gpt_kit.runtime import Precision, World
from gpt_kit.tokenizers import Tokenizer, chat_tokenizer, load_tokenizer
from gpt_kit.training import Trainer

SHOWN = 2  # examples, before the first step
SHOWN_TOKENS = 200  # of each


def start_sft(config: SftRun, run: Path, resume: str = "") -> Trainer:
    """Fine-tune to the end. Raises as `start_run` does."""

    def prepare(checkpoint: Path | None, precision: Precision, device: torch.device, world: World) -> SftTask:
        own = run / "base"
        going_on = checkpoint is not None and config.lora.rank and (own / "model.safetensors").is_file()
        folder = own if going_on else locate_model(config.sft.base)
        tokenizer = chat_tokenizer(load_tokenizer(folder))
        model = GPTModel.from_pretrained(folder)
        model.resize_vocabulary(max(model.config.vocab_size, tokenizer.vocab_size))
        settings = dataclasses.replace(
            config.sft, max_length=checked_length("sft", config.sft.max_length, model.config.max_position_embeddings)
        )
        train, val, remarks = read_examples(settings, tokenizer)
        training = steps_of(settings.epochs, len(train), config.training)
        whole = dataclasses.replace(config, model=model.config, sft=findable(settings), training=training)
        whole = with_micro_batch(whole, run, checkpoint, precision, device, world)
        task = SftTask(whole, tokenizer, model, train, val, remarks)
        if config.lora.rank:
            task.files = AdapterFiles(config.lora, base_of_adapters(folder, model, tokenizer, run, world))
        world.agree({"conversations": str(task.data_order["conversations"])})
        return task

    return start_run(config, run, resume, prepare)


def read_examples(config: SftConfig, tokenizer: Tokenizer) -> tuple[list[Example], list[Example], list[str]]:
    """Examples to learn from, examples set aside, and what there is to say about them. Raises: DataError where some cannot teach."""
    skip = config.on_unusable == "skip" or (config.on_unusable == "auto" and Source(config.data).hub is not None)
    train = _read(config, config.data, skip)
    val = _read(config, config.val, skip) if config.val else []
    if not val and (number := round(len(train) * config.val_fraction)):
        chosen = set(random.Random(config.split_seed).sample(range(len(train)), number))
        val = [conversation for i, conversation in enumerate(train) if i in chosen]
        train = [conversation for i, conversation in enumerate(train) if i not in chosen]
    remarks: list[str] = []
    parts = []
    for source, conversations in ((config.data, train), (config.val or config.data, val)):
        encoded = encode_conversations(conversations, tokenizer, config.max_length)
        if not skip:
            refuse_unusable(encoded, source)
        if encoded.unusable:
            remarks.append(f"{source}: {len(encoded.unusable):,} cannot teach and are left out, such as {encoded.unusable[0]}")
        if encoded.shortened:
            remarks.append(f"{source}: {encoded.shortened:,} lost exchanges at their end, which the context cannot hold")
        parts.append(encoded.examples)
    if not parts[0]:
        raise DataError(f"{config.data}: no conversation is left to learn from")
    known = {tuple(example.ids) for example in parts[0]}
    if leaked := sum(tuple(example.ids) in known for example in parts[1]):
        remarks.append(f"{leaked:,} of {len(parts[1]):,} conversations to validate on are also learned from: the validation loss flatters")
    return parts[0], parts[1], remarks


def base_of_adapters(folder: Path, model: GPTModel, tokenizer: Tokenizer, run: Path, world: World) -> Path:
    """The Hugging Face folder that LoRA is added to: the one that was named, or RUN/base.

    A model of its own is written there where the named one lacks the chat marks, is no Hugging Face folder, or is another run's
    checkpoint, which that run may delete.
    """
    base, whole = run / "base", (folder / "model.safetensors").is_file()
    if folder == base or (whole and folder.parent.name != "checkpoints" and load_tokenizer(folder).vocab_size >= tokenizer.vocab_size):
        return folder
    with world.main_first():
        if world.is_main:
            model.save_pretrained(base, end_of_text_id=tokenizer.end_of_text_id)
            tokenizer.save(base)
    return base


class SftTask(Task):
    """The task of answering as the conversations do."""

    config: SftRun

    def __init__(
        self, config: SftRun, tokenizer: Tokenizer, model: GPTModel, train: list[Example], val: list[Example], remarks: list[str]
    ) -> None:
        self.config, self.tokenizer, self.model, self.train, self.val, self.remarks = config, tokenizer, model, train, val, remarks
        digest = hashlib.sha256(json.dumps([[example.ids, example.trained] for example in train]).encode()).hexdigest()
        training = config.training
        self.data_order = {"conversations": digest, "training.batch_size": training.batch_size, "training.seed": training.seed}

    def build_model(self, device: torch.device) -> GPTModel:
        """The base, of which some is trained: all but what is frozen, or LoRA beside it."""
        if self.config.sft.freeze:
            freeze(self.model, self.config.sft.freeze)
        add_lora(self.model, self.config.lora)
        return self.model.to(device)

    def batches(self, device: torch.device) -> tuple[ExampleBatches, ExampleEvaluation | None, None]:
        """Examples, several in a row."""
        del device
        training, length = self.config.training, self.config.sft.max_length
        train = ExampleBatches(self.train, batch_size=training.batch_size, max_length=length, seed=training.seed)
        val = ExampleEvaluation(self.val, batch_size=training.batch_size, max_length=length) if self.val else None
        return train, val, None

    def facts(self) -> list[str | Text]:
        """What is trained on what, with examples in colour."""
        tokens, trained = sum(len(example.ids) for example in self.train), sum(example.num_trained for example in self.train)
        longest = max(len(example.ids) for example in self.train)
        lines: list[str | Text] = [
            describe_model(self.config.model),
            f"        {trainable_summary(self.model)}",
            f"text    {len(self.train):,} conversations to learn from, {len(self.val):,} to validate ({self.tokenizer.name})",
            f"        {tokens:,} tokens, of which {trained:,} ({trained / tokens:.0%}) are learned; the longest has {longest:,}",
            *(f"note: {remark}" for remark in self.remarks),
        ]
        for number, example in enumerate(self.train[:SHOWN], start=1):
            shown = Text(f"example {number} ({example.source}; learned is what is green)\n", style="bold")
            lines.append(shown.append(in_colour(example, self.tokenizer)))
        return lines

    def write_sample(self, *sample: Any) -> None:
        """What it answers by now."""
        write_answers(*sample)


def in_colour(example: Example, tokenizer: Tokenizer) -> Text:
    """The beginning of an example as text, what is learned in green, the rest dim."""
    text, start = Text(), 0
    ids, trained = example.ids[:SHOWN_TOKENS], example.trained[:SHOWN_TOKENS]
    for end in range(1, len(ids) + 1):
        if end == len(ids) or trained[end] != trained[start]:
            text.append(tokenizer.decode(ids[start:end]), style="green" if trained[start] else "dim")
            start = end
    return text.append(f" … {len(example.ids) - len(ids):,} more tokens", style="dim") if len(ids) < len(example.ids) else text


def _read(config: SftConfig, source: str, skip: bool) -> list[Conversation]:
    return read_conversations(source, config.template, on_damaged="skip" if skip else "error", note=note)
