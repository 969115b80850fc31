"""Which kind of run a TOML file describes: one of its sections says it."""

from __future__ import annotations

from pathlib import Path

from gpt_kit.config.finetune import ClassifyRun, SftRun
from gpt_kit.config.run import RunConfig, Settings
from gpt_kit.config.toml import config_from_dict, read_toml

AnyRun = RunConfig | SftRun | ClassifyRun
KINDS: dict[str, type[SftRun] | type[ClassifyRun]] = {"sft": SftRun, "classify": ClassifyRun}


def command_of(config: Settings) -> str:
    """The command that starts such a run, and goes on with it."""
    section = next((section for section, kind in KINDS.items() if isinstance(config, kind)), "")
    return f"gpt-kit finetune {section}" if section else "gpt-kit train"


def load_any_run(path: Path) -> AnyRun:
    """The run of any kind that a TOML file describes. Raises: ConfigError with every problem of the file."""
    content = read_toml(path)
    for section, kind in KINDS.items():
        if section in content:
            return config_from_dict(kind, content, where=f"{path}: ")
    return config_from_dict(RunConfig, content, where=f"{path}: ")
