"""`gpt-kit train`: corpus or raw text -> a run folder with a trained model."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, TypeVar

import tyro

from gpt_kit.cli.arguments import begun_run, parse, peek, with_short_micro_batch
from gpt_kit.config import (
    CheckpointConfig,
    DataConfig,
    EvaluationConfig,
    LoggingConfig,
    ModelConfig,
    RunConfig,
    TrainingConfig,
    fitting_heads,
    load_run_config,
)
from gpt_kit.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class TrainArguments:
    """Train a GPT. Settings come from the TOML file, then from the command line; every TOML key is a flag of the same name."""

    out: Path | None = None
    """The run's folder; it gets checkpoints, metrics.jsonl, loss.png and samples.md. By default runs/NAME, after the TOML file or text."""
    config: Path | None = None
    """A TOML file with settings, such as those in configs/."""
    preset: Annotated[str, tyro.conf.arg(name="model")] = "gpt2-small"
    """A published shape: gpt2-small, gpt2-medium, gpt2-large, gpt2-xl or openai-gpt; --model.* changes it."""
    source: Annotated[str, tyro.conf.arg(name="data")] = ""
    """The text: short for --data.source."""
    resume: str = ""
    """Go on with a run: 'auto' finds its newest sound checkpoint (and starts, if --data is given and there is none), or name a folder."""
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    checkpoints: CheckpointConfig = field(default_factory=CheckpointConfig)
    logging: LoggingConfig = field(default_factory=LoggingConfig)


Arguments = TypeVar("Arguments", bound=TrainArguments)


def main(words: Sequence[str]) -> None:
    """Read the settings, train, and say what to do with the result."""
    arguments = parse_settings(TrainArguments, "train", words)
    config = settings_of(arguments)

    from gpt_kit.cli.display import console
    from gpt_kit.cli.pretraining import train_run
    from gpt_kit.cli.runs import free_folder
    from gpt_kit.training import draw_loss_text, points_of, read_metrics

    if arguments.out is None and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("several processes need one name for their run: add --out runs/NAME")
    run = arguments.out or free_folder(Path("runs") / _run_name(arguments.config, config.data.source))
    trainer = train_run(config, run, arguments.resume)
    records = read_metrics(run / "metrics.jsonl")
    console.print(draw_loss_text(points_of(records, "train/loss")))
    final = records[-1] if records else {}
    for name, what in (("val/loss", "validation loss"), ("val/whole_loss", "validation loss, whole split")):
        if name in final:
            loss, best = ("not finite" if value is None else f"{value:.4f}" for value in (final[name], trainer.state.best_val_loss))
            console.print(f"{what}: {loss} at step {final['step']} (best {best})")
    console.print(f"curve   {run}/loss.png\nmodel   {trainer.state.step} steps, in {run}/checkpoints")
    console.print(f"next    gpt-kit generate {run} --prompt '…'")


def settings_of(arguments: TrainArguments) -> RunConfig:
    """The run that a command line asks for."""
    config = RunConfig(**{section.name: getattr(arguments, section.name) for section in dataclasses.fields(RunConfig)})
    source = arguments.source or config.data.source
    return dataclasses.replace(config, data=dataclasses.replace(config.data, source=source))


def parse_settings(kind: type[Arguments], verb: str, words: Sequence[str]) -> Arguments:
    """The command line over the TOML file (when resuming: the run's own) over the preset."""
    words = with_short_micro_batch(words)
    config_file, preset = peek(words, "--config"), peek(words, "--model")
    begun = begun_run(words, "--data", "--data.source")
    if begun is not None:
        base = load_run_config(begun)
        if preset is not None:  # the same words as at the start are welcome; another shape is refused when the checkpoint is read
            base = dataclasses.replace(base, model=load_run_config(None, preset=preset).model)
    else:
        base = load_run_config(Path(config_file) if config_file else None, preset=preset)
    width = peek(words, "--model.n-embd") or peek(words, "--model.n_embd") or ""
    if width.isdecimal() and int(width) > 0 and not any(word.startswith(("--model.n-head", "--model.n_head")) for word in words):
        shape = dataclasses.replace(base.model, n_embd=int(width), n_head=fitting_heads(int(width), base.model.n_head))
        base = dataclasses.replace(base, model=shape)
    sections = {section.name: getattr(base, section.name) for section in dataclasses.fields(RunConfig)}
    return parse(kind, verb, words, kind(**sections))


def _run_name(config_file: Path | None, source: str) -> str:
    """A folder's name after the TOML file, or else the text."""
    name = config_file.stem if config_file else Path(source).name.split(".")[0]
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "text"
