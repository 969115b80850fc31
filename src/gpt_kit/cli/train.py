"""`gpt-kit train`: corpus or raw text -> a run folder with a trained model."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from gpt_kit.cli.arguments import parse, peek
from gpt_kit.config import (
    CheckpointConfig,
    DataConfig,
    EvaluationConfig,
    LoggingConfig,
    ModelConfig,
    RunConfig,
    TrainingConfig,
    load_run_config,
)
from gpt_kit.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class TrainArguments:
    """Train a GPT. Settings come from the TOML file, then from the command line; every TOML key is a flag of the same name."""

    out: Path
    """The run's folder; it gets checkpoints, metrics.jsonl, loss.png and samples.md."""
    config: Path | None = None
    """A TOML file with settings, such as those in configs/."""
    preset: Annotated[str, tyro.conf.arg(name="model")] = "gpt2-small"
    """A published shape: gpt2-small, gpt2-medium, gpt2-large, gpt2-xl or openai-gpt; --model.* changes it."""
    source: Annotated[str, tyro.conf.arg(name="data")] = ""
    """The text: short for --data.source."""
    resume: str = ""
    """Go on with a run: 'auto' finds its newest sound checkpoint, or name a checkpoint folder."""
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    checkpoints: CheckpointConfig = field(default_factory=CheckpointConfig)
    logging: LoggingConfig = field(default_factory=LoggingConfig)


def main(words: Sequence[str]) -> None:
    """Read the settings, train, and say what to do with the result."""
    arguments = _parse(words)
    config = RunConfig(**{section.name: getattr(arguments, section.name) for section in dataclasses.fields(RunConfig)})
    if arguments.source:
        config = dataclasses.replace(config, data=dataclasses.replace(config.data, source=arguments.source))

    from gpt_kit.cli.assemble import train_run
    from gpt_kit.cli.display import console
    from gpt_kit.training import draw_loss_text, points_of, read_metrics

    trainer = train_run(config, arguments.out, arguments.resume)
    records = read_metrics(arguments.out / "metrics.jsonl")
    console.print(draw_loss_text(points_of(records, "train/loss")), markup=False)
    final = records[-1] if records else {}
    for name, what in (("val/loss", "validation loss"), ("val/whole_loss", "validation loss, whole split")):
        if name in final:
            console.print(f"{what}: {final[name]:.4f} at step {final['step']} (best {trainer.state.best_val_loss:.4f})")
    console.print(f"curve   {arguments.out}/loss.png\nmodel   {trainer.state.step} steps, in {arguments.out}/checkpoints")
    console.print(f"next    gpt-kit generate {arguments.out} --prompt '…'")


def _parse(words: Sequence[str]) -> TrainArguments:
    """The command line over the TOML file (when resuming: the run's own) over the preset."""
    config_file, out, resume = peek(words, "--config"), peek(words, "--out"), peek(words, "--resume")
    if config_file is None and resume is not None and out is not None:
        if not (Path(out) / "config.toml").is_file():
            raise ConfigError(f"{out}: nothing to resume (config.toml is missing). Start a run there without --resume, or check --out")
        config_file = str(Path(out) / "config.toml")
        if peek(words, "--model") is not None:
            raise ConfigError("--model cannot be changed when a run is resumed: its shape is the run's own. Leave it out")
    base = load_run_config(Path(config_file) if config_file else None, preset=peek(words, "--model"))
    sections = {section.name: getattr(base, section.name) for section in dataclasses.fields(RunConfig)}
    out_default = Path(out) if out else tyro.MISSING
    return parse(TrainArguments, "train", words, TrainArguments(out=out_default, **sections))
