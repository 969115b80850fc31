"""`gpt-kit info`: what a model or a run is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from gpt_kit.cli.arguments import parse


@dataclass(frozen=True, kw_only=True)
class InfoArguments:
    """Show a model's parameters by component, its arithmetic and memory, its tokenizer, and a run's history."""

    model: tyro.conf.Positional[str]
    """A run, a checkpoint, a Hugging Face folder or hub name, OpenAI's release files, or a preset such as gpt2-small."""


def main(words: Sequence[str]) -> None:
    """Print it as tables."""
    arguments = parse(InfoArguments, "info", words)

    from rich.table import Table

    from gpt_kit.cli.display import console
    from gpt_kit.config import PRESETS, SHORT_NAMES, create_model_config
    from gpt_kit.errors import TokenizerError
    from gpt_kit.locate import locate_model
    from gpt_kit.model import count_model
    from gpt_kit.tokenizers import load_tokenizer
    from gpt_kit.weights import load_weights

    preset = not Path(arguments.model).exists() and arguments.model in (*PRESETS, *SHORT_NAMES)
    folder = None if preset else locate_model(arguments.model)
    config = create_model_config(arguments.model) if folder is None else load_weights(folder).config
    counts = count_model(config)
    console.print(f"[bold]{folder or arguments.model}[/]")
    console.print(
        f"{config.n_layer} layers, width {config.n_embd}, {config.n_head} heads, context {config.max_position_embeddings}, "
        f"vocabulary {config.vocab_size:,}, {config.norm}-norm, {config.position_embedding} positions"
    )
    table = Table("component", "parameters", "share", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for name, number in [*counts.parameters.items(), ("total", counts.total_parameters)]:
        table.add_row(name, f"{number:,}", f"{number / counts.total_parameters:.1%}")
    console.print(table)
    console.print(f"arithmetic  {counts.forward_flops_per_token / 1e6:,.1f} MFLOP per token to generate or evaluate, "
                  f"{counts.training_flops_per_token / 1e6:,.1f} to train")  # fmt: skip
    console.print(f"memory      {counts.training_bytes / 1e6:,.0f} MB to train with AdamW in float32, without activations")
    if folder is not None:
        try:
            tokenizer = load_tokenizer(folder)
            console.print(f"tokenizer   {tokenizer.name}, {tokenizer.vocab_size:,} entries, fingerprint {tokenizer.fingerprint[:12]}")
        except TokenizerError as error:
            console.print(f"tokenizer   none ({error})")
    _print_history(Path(arguments.model))


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
    console.print(draw_loss_text(points_of(records, "train/loss")), markup=False)
