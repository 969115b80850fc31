"""Settings: frozen dataclasses, the published shapes, and TOML + command line -> dataclass. No torch."""

from gpt_kit.config.finetune import ClassifyConfig, ClassifyRun, SftConfig, SftRun
from gpt_kit.config.kinds import AnyRun, command_of, load_any_run
from gpt_kit.config.lora import LoraConfig, LoraTarget
from gpt_kit.config.model import PRESETS, SHORT_NAMES, ModelConfig, create_model_config, fitting_heads
from gpt_kit.config.run import (
    CheckpointConfig,
    CorpusConfig,
    DataConfig,
    EvaluationConfig,
    LoggingConfig,
    RunConfig,
    Settings,
    TrainingConfig,
)
from gpt_kit.config.suggest import did_you_mean
from gpt_kit.config.toml import config_from_dict, load_config, load_run_config, run_config_to_toml

__all__ = [
    "PRESETS",
    "SHORT_NAMES",
    "AnyRun",
    "CheckpointConfig",
    "ClassifyConfig",
    "ClassifyRun",
    "CorpusConfig",
    "DataConfig",
    "EvaluationConfig",
    "LoggingConfig",
    "LoraConfig",
    "LoraTarget",
    "ModelConfig",
    "RunConfig",
    "Settings",
    "SftConfig",
    "SftRun",
    "TrainingConfig",
    "command_of",
    "config_from_dict",
    "create_model_config",
    "did_you_mean",
    "fitting_heads",
    "load_any_run",
    "load_config",
    "load_run_config",
    "run_config_to_toml",
]
