"""One run, as plain frozen facts: what `configs/*.toml` and the command line say, section by section.

The text under each setting is also its help on the command line. Every section reports all of its problems at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from gpt_kit.config.model import ModelConfig
from gpt_kit.errors import ConfigError


def _check(section: str, config: Any, at_least: dict[str, float], shares: tuple[str, ...] = ()) -> None:
    problems = [
        f"{name} must be at least {low}; got {getattr(config, name)}"
        for name, low in at_least.items()
        if not low <= getattr(config, name) < float("inf")  # false for NaN too
    ]
    problems += [f"{name} must be from 0 to 1; got {getattr(config, name)}" for name in shares if not 0 <= getattr(config, name) <= 1]
    if problems:
        raise ConfigError(f"the settings under [{section}] cannot be used:\n  - " + "\n  - ".join(problems))


@dataclass(frozen=True, kw_only=True, slots=True)
class CorpusConfig:
    """How raw text becomes tokens, and which of it is set aside."""

    tokenizer: str = "gpt2"
    """What cuts raw text: 'gpt2', 'bpe' (trained on the text), 'char', 'byte', or a folder that holds a tokenizer."""
    vocab_size: int = 4096
    """Entries of the vocabulary that tokenizer 'bpe' learns, in tokens."""
    text_key: str = "text"
    """The key or column that holds the text in .jsonl, .json and .parquet."""
    val_fraction: float = 0.1
    """Share of the text set aside for validation, 0 to 1."""
    split: Literal["auto", "document", "contiguous"] = "auto"
    """How validation is set aside: whole documents by a seeded hash, or the end of the text; auto: documents where there are 20."""
    split_seed: int = 1337
    """Seed of the choice of validation documents."""

    def __post_init__(self) -> None:
        _check("data", self, {"vocab_size": 2, "split_seed": 0}, ("val_fraction",))


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig(CorpusConfig):
    """Which text, cut into which tokens, in which order."""

    source: str = ""
    """A prepared corpus, or raw text to prepare on the fly: a file, a folder, a glob, '-' (stdin) or 'python-docs'."""
    windows: Literal["shuffled", "random"] = "shuffled"
    """Training windows: every one once an epoch in a new order, or each start drawn anew."""
    stride: int = 0
    """Tokens from one shuffled window's start to the next; 0 means the context length, so without overlap."""
    document_mask: bool = False
    """Keep documents packed into one window from attending to each other."""

    def __post_init__(self) -> None:
        CorpusConfig.__post_init__(self)
        _check("data", self, {"stride": 0})


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingConfig:
    """How the weights change from step to step."""

    max_steps: int = 1000
    """Updates of the weights in the whole run."""
    batch_size: int = 16
    """Windows per update, over all micro-batches."""
    micro_batch_size: int = 0
    """Windows per forward pass; smaller needs less memory and changes nothing else. 0 means batch_size."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """AdamW for everything, or Muon for the blocks' matrices with AdamW for the rest."""
    learning_rate: float = 6e-4
    """Highest learning rate of AdamW."""
    muon_learning_rate: float = 0.02
    """Highest learning rate of Muon."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """How the learning rate falls after the warm-up."""
    warmup_steps: int = 100
    """Steps over which the learning rate rises from 0."""
    min_learning_rate_ratio: float = 0.1
    """The learning rate at the end, as a share of the highest."""
    weight_decay: float = 0.1
    """Decay of the matrices, decoupled; biases and LayerNorm have none."""
    beta1: float = 0.9
    """AdamW's decay of the gradient mean."""
    beta2: float = 0.95
    """AdamW's decay of the squared gradient mean."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm where they exceed it; 0 means never."""
    seed: int = 1337
    """Seed of the initial weights, the dropout and the order of the data."""
    device: str = "auto"
    """Where to compute: auto, cpu, cuda, cuda:N or mps."""
    precision: Literal["auto", "float32", "tf32", "bf16", "fp16"] = "auto"
    """Number format of the matrix products; auto: bf16 where the device has it in hardware, else float32."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Compile the blocks; auto: on CUDA in runs of 500 steps or more. Compiling takes up to a minute first."""
    activation_checkpointing: bool = False
    """Compute activations twice instead of keeping them: less memory, about a third more time."""

    def __post_init__(self) -> None:
        low: dict[str, float] = {"max_steps": 1, "batch_size": 1, "micro_batch_size": 0, "warmup_steps": 0, "seed": 0}
        low |= {"learning_rate": 0, "muon_learning_rate": 0, "weight_decay": 0, "max_grad_norm": 0}
        _check("training", self, low, ("min_learning_rate_ratio", "beta1", "beta2"))


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationConfig:
    """How often and how thoroughly the run looks at itself."""

    interval: int = 250
    """Steps between evaluations on validation text; the last step is always evaluated, on all of it."""
    time_share: float = 0.1
    """Share of the training time that evaluations may take, 0 to 1: it fixes how much validation text each one reads."""
    stride: int = 0
    """Tokens from one validation window to the next; 0 means the context length. Less gives every token more context."""
    prompt: str = ""
    """What samples of text begin with; empty: a new document."""
    sample_tokens: int = 100
    """Tokens per sample of text, written at each evaluation; 0 means no samples."""

    def __post_init__(self) -> None:
        _check("evaluation", self, {"interval": 1, "stride": 0, "sample_tokens": 0}, ("time_share",))


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckpointConfig:
    """What is kept. The last state and the best one by validation loss always are."""

    interval: int = 500
    """Steps between checkpoints; 0 means only the best and the last."""
    keep: int = 2
    """How many of the newest checkpoints stay, beside the best."""

    def __post_init__(self) -> None:
        _check("checkpoints", self, {"interval": 0, "keep": 1})


@dataclass(frozen=True, kw_only=True, slots=True)
class LoggingConfig:
    """What the run tells."""

    interval: int = 10
    """Steps between lines of metrics.jsonl."""
    tensorboard: bool = False
    """Write TensorBoard files as well (needs the extra 'tensorboard')."""

    def __post_init__(self) -> None:
        _check("logging", self, {"interval": 1})


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """Everything that decides a run, apart from the folder it is written to."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    checkpoints: CheckpointConfig = field(default_factory=CheckpointConfig)
    logging: LoggingConfig = field(default_factory=LoggingConfig)
