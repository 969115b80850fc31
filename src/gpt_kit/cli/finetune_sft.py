"""`gpt-kit finetune sft`: conversations -> a model that answers, and stops when it has answered."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from gpt_kit.cli.arguments import begun_run
from gpt_kit.cli.finetune import parse_run, run_folder, with_short_names
from gpt_kit.config import CheckpointConfig, EvaluationConfig, LoggingConfig, LoraConfig, SftConfig, SftRun, TrainingConfig
from gpt_kit.errors import ConfigError

LORA_LEARNING_RATE = 2e-4  # small matrices that begin at zero want larger steps than weights that are nearly right


@dataclass(frozen=True, kw_only=True)
class SftArguments:
    """Teach a model to answer (supervised fine-tuning). Settings come from the TOML file, then from the command line."""

    out: Path | None = None
    """The run's folder. By default runs/NAME-sft, after the model."""
    config: Path | None = None
    """A TOML file with settings."""
    base: Annotated[str, tyro.conf.arg(name="model")] = ""
    """The model to start from: short for --sft.base."""
    data: Annotated[str, tyro.conf.arg(name="data")] = ""
    """The conversations: short for --sft.data."""
    val: Annotated[str, tyro.conf.arg(name="val")] = ""
    """Conversations to validate on: short for --sft.val."""
    resume: str = ""
    """Go on with a run: 'auto' finds its newest sound checkpoint (and starts, if --data is given and there is none), or name a folder."""
    sft: SftConfig = field(default_factory=SftConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    checkpoints: CheckpointConfig = field(default_factory=CheckpointConfig)
    logging: LoggingConfig = field(default_factory=LoggingConfig)


def main(words: Sequence[str]) -> None:
    """Read the settings, show what is learned, train, and say what to do with the result."""
    arguments = parse_run(SftArguments, SftRun, "sft", words)
    sections = {name: getattr(arguments, name) for name in ("sft", "lora", "training", "evaluation", "checkpoints", "logging")}
    config = SftRun(**sections)
    config = dataclasses.replace(config, sft=with_short_names(config.sft, base=arguments.base, data=arguments.data, val=arguments.val))
    its_own = arguments.config or begun_run(words, "--data", "--sft.data") or any(word.startswith("--training.learning") for word in words)
    if config.lora.rank and not its_own:
        config = dataclasses.replace(config, training=dataclasses.replace(config.training, learning_rate=LORA_LEARNING_RATE))
    if not config.sft.base or not config.sft.data:
        missing = "a model to start from (--model)" if not config.sft.base else "conversations to learn from (--data)"
        raise ConfigError(f"finetune sft needs {missing}: gpt-kit finetune sft --model runs/a --data chats.jsonl --out runs/chat")

    from gpt_kit.cli.conversations import start_sft
    from gpt_kit.cli.display import console
    from gpt_kit.training import draw_loss_text, points_of, read_metrics

    run = run_folder(arguments.out, config.sft.base, "sft")
    trainer = start_sft(config, run, arguments.resume)
    console.print(draw_loss_text(points_of(read_metrics(run / "metrics.jsonl"), "train/loss")))
    if trainer.state.best_val_loss is not None:
        console.print(f"validation loss: best {trainer.state.best_val_loss:.4f} at step {trainer.state.best_step}")
    console.print(f"curve   {run}/loss.png\nmodel   {trainer.state.step} steps, in {run}/checkpoints\nnext    gpt-kit chat {run}")
