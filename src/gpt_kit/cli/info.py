"""`gpt-kit info`: what a model, a run or a corpus is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from gpt_kit.cli.arguments import parse

if TYPE_CHECKING:
    from gpt_kit.config import ModelConfig


@dataclass(frozen=True, kw_only=True)
class InfoArguments:
    """Show a model's parameters, arithmetic and memory by component, its tokenizer, and a run's history; or what a corpus holds."""

    model: tyro.conf.Positional[str]
    """A run, a checkpoint, a corpus, a Hugging Face folder or hub name, OpenAI's release files, or a preset such as gpt2-small."""


def main(words: Sequence[str]) -> None:
    """Print it as tables."""
    arguments = parse(InfoArguments, "info", words)

    from gpt_kit.config import PRESETS, SHORT_NAMES, create_model_config, did_you_mean
    from gpt_kit.data import is_corpus
    from gpt_kit.errors import CheckpointError
    from gpt_kit.locate import locate_model, run_of

    name, presets = arguments.model, (*PRESETS, *SHORT_NAMES)
    path = Path(name).expanduser()
    if not path.exists() and name in presets:
        _print_model(name, create_model_config(name))
    elif not path.exists() and did_you_mean(name, presets):
        raise CheckpointError(f"{name}: there is no such folder and no such preset{did_you_mean(name, presets)}")
    elif is_corpus(path):
        _print_corpus(path)
    elif run := run_of(path):
        _print_run(run)
    else:
        folder = locate_model(name)
        _print_model(str(folder), _config_of(folder))
        _print_adapter(folder)
        _print_labels(folder)
        _print_tokenizer(folder)


def _print_run(run: Path) -> None:
    from gpt_kit.cli.display import console
    from gpt_kit.config import RunConfig, SftRun, load_any_run
    from gpt_kit.errors import CheckpointError
    from gpt_kit.locate import best_checkpoint, step_folders

    try:
        folder = best_checkpoint(run)
        _print_model(str(folder), _config_of(folder))
        _print_adapter(folder)
        _print_labels(folder)
        _print_tokenizer(folder)
    except CheckpointError as error:
        if step_folders(run) or not (run / "config.toml").is_file():
            raise
        config = load_any_run(run / "config.toml")
        _print_model(str(run), config.model)
        console.print(f"checkpoint  none: {error}")
    if (run / "config.toml").is_file():
        config = load_any_run(run / "config.toml")
        training = config.training
        if isinstance(config, RunConfig):
            console.print(f"text        {config.data.source}, tokenizer {config.data.tokenizer}")
        else:
            learned = config.sft if isinstance(config, SftRun) else config.classify
            console.print(f"base        {learned.base}")
            console.print(f"text        {learned.data}")
        what = "windows" if isinstance(config, RunConfig) else "examples"
        console.print(
            f"training    {training.max_steps:,} steps of {training.batch_size} {what}, {training.optimizer}, "
            f"learning rate {training.learning_rate:g}"
        )
    _print_history(run)


def _config_of(folder: Path) -> ModelConfig:
    """A Hugging Face folder says in config.json what it holds; the released files say it by their weights."""
    from gpt_kit.weights import load_weights
    from gpt_kit.weights.huggingface_config import read_config

    return read_config(folder / "config.json")[0] if (folder / "config.json").is_file() else load_weights(folder).config


def _print_model(title: str, config: ModelConfig) -> None:
    from rich.table import Table

    from gpt_kit.cli.display import console
    from gpt_kit.model import count_model

    counts = count_model(config)
    console.print(title, style="bold")
    console.print(
        f"{config.n_layer} layers, width {config.n_embd}, {config.n_head} heads, context {config.max_position_embeddings}, "
        f"vocabulary {config.vocab_size:,}, {config.norm}-norm, {config.position_embedding} positions"
    )
    table = Table("component", "parameters", "share", "MFLOP per token", "MB to train", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    rows = [(name, number, counts.forward_flops[name], counts.training_memory[name]) for name, number in counts.parameters.items()]
    for name, number, flops, size in [*rows, ("total", counts.total_parameters, counts.forward_flops_per_token, counts.training_bytes)]:
        table.add_row(name, f"{number:,}", f"{number / counts.total_parameters:.1%}", f"{flops / 1e6:,.2f}", f"{size / 1e6:,.2f}")
    console.print(table)
    console.print(f"arithmetic  matrix products of the forward pass; a token of training takes three times as much: "
                  f"{counts.training_flops_per_token / 1e6:,.2f} MFLOP")  # fmt: skip
    console.print("memory      weights, gradients and AdamW's moments in float32; activations come on top")


def _print_adapter(folder: Path) -> None:
    """The counts above are those of the merged model; this is what the folder itself holds."""
    from gpt_kit.cli.display import console
    from gpt_kit.locate import base_of_adapter
    from gpt_kit.weights import read_adapter

    if base := base_of_adapter(folder):
        adapter = read_adapter(folder, _config_of(base))
        pairs = adapter.updates.values()
        ranks = ", ".join(str(rank) for rank in sorted({len(a) for a, _ in pairs}))
        numbers = sum(a.numel() + b.numel() for a, b in pairs)
        console.print(f"LoRA        {numbers:,} parameters of rank {ranks}, alpha {adapter.alpha:g}, in {len(pairs)} layers of {base}")


def _print_labels(folder: Path) -> None:
    """What a classifier chooses among."""
    from gpt_kit.cli.display import console
    from gpt_kit.files import read_json

    names = (read_json(folder / "config.json") if (folder / "config.json").is_file() else {}).get("id2label")
    if names:
        console.print(f"labels      {', '.join(map(str, names.values()))}")


def _print_tokenizer(folder: Path) -> None:
    from gpt_kit.cli.display import console
    from gpt_kit.errors import TokenizerError
    from gpt_kit.tokenizers import load_tokenizer

    try:
        tokenizer = load_tokenizer(folder)
        line = f"{tokenizer.name}, {tokenizer.vocab_size:,} entries, fingerprint {tokenizer.fingerprint[:12]}"
    except TokenizerError as error:
        line = f"none ({error})"
    console.print(f"tokenizer   {line}")


def _print_corpus(folder: Path) -> None:
    from rich.table import Table

    from gpt_kit.cli.display import console
    from gpt_kit.cli.prepare import print_read
    from gpt_kit.data import open_corpus

    info = open_corpus(folder, verify=False).info
    console.print(str(folder), style="bold")
    table = Table("part", "tokens", "documents", "bytes", "bytes per token", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for name in ("train", "val"):
        tokens, documents, size = (info[name][key] for key in ("tokens", "documents", "bytes"))
        table.add_row(name, f"{tokens:,}", f"{documents:,}", f"{size:,}", f"{size / tokens:.2f}" if tokens else "")
    console.print(table)
    console.print(f"source      {info['source']}")
    share = info["val"]["bytes"] / max(1, info["train"]["bytes"] + info["val"]["bytes"])
    console.print(f"split       {info['split']}, {share:.1%} of the text set aside for validation")
    print_read(info["read"])
    if info["duplicates"]:
        console.print(f"duplicates  {info['duplicates']:,} documents occur more than once")
    near = info["near_duplicates"]
    console.print(f"leaks       {near['documents_near_training']:,} of {near['documents_checked']:,} validation documents compared")
    _print_tokenizer(folder)


def _print_history(run: Path) -> None:
    from gpt_kit.cli.display import console
    from gpt_kit.training import draw_loss_text, points_of, read_metrics

    records = read_metrics(run / "metrics.jsonl")
    if not records:
        return
    last = records[-1]
    console.print(f"history     {last['step']:,} steps, {last['tokens_seen']:,} tokens seen")
    validations = points_of(records, "val/loss")
    if validations:
        best_step, best = min(validations, key=lambda point: point[1])
        console.print(f"validation  {validations[-1][1]:.4f} at step {validations[-1][0]}, best {best:.4f} at step {best_step}")
    if accuracies := points_of(records, "val/accuracy"):
        best_step, best = max(accuracies, key=lambda point: point[1])
        console.print(f"accuracy    {accuracies[-1][1]:.4f} at step {accuracies[-1][0]}, best {best:.4f} at step {best_step}")
    console.print(draw_loss_text(points_of(records, "train/loss")))
