"""One run, as plain frozen facts: what `configs/*.toml` and the command line say, section by section.

The text under each setting is also its help on the command line. Every section reports all of its problems at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

from gpt_kit.config.model import ModelConfig, value_problems
from gpt_kit.errors import ConfigError


def check_section(
    section: str, config: Any, at_least: dict[str, float], *, up_to_one: tuple[str, ...] = (), below_one: tuple[str, ...] = ()
) -> None:
    """Raises: ConfigError that lists every setting of a section that is of the wrong kind or out of its range."""
    problems = value_problems(config)
    if not problems:
        values = {name: getattr(config, name) for name in (*at_least, *up_to_one, *below_one)}
        problems += [f"{name} must be at least {low}; got {values[name]}" for name, low in at_least.items() if values[name] < low]
        problems += [f"{name} must be from 0 to 1; got {values[name]}" for name in up_to_one if not 0 <= values[name] <= 1]
        problems += [f"{name} must be at least 0 and below 1; got {values[name]}" for name in below_one if not 0 <= values[name] < 1]
    if problems:
        raise ConfigError(f"the settings under [{section}] cannot be used:\n  - " + "\n  - ".join(problems))


@dataclass(frozen=True, kw_only=True, slots=True)
class CorpusConfig:
    """How raw text becomes tokens, and which of it is set aside."""

    tokenizer: str = "gpt2"
    """What cuts raw text: 'gpt2', 'bpe' (trained on the text), 'char', 'byte', or a folder that holds a tokenizer."""
    vocab_size: int = 4096
    """Entries of the vocabulary that tokenizer 'bpe' learns, in tokens: 257 (the bytes and an end token) or more."""
    text_key: str = "text"
    """The key or column that holds the text in .jsonl, .json and .parquet."""
    val_fraction: float = 0.1
    """Share of the text set aside for validation, 0 to below 1; 0 sets none aside."""
    split: Literal["auto", "document", "contiguous"] = "auto"
    """How validation is set aside: whole documents by a seeded hash, or the end of the text; auto: documents where there are 20."""
    split_seed: int = 1337
    """Seed of the choice of validation documents: a whole number from 0 to 2**63 - 1."""
    on_damaged: Literal["error", "skip", "replace"] = "error"
    """Damaged lines and records: stop at the first, leave them out, or repair what can be repaired and leave out the rest."""
    streaming: Literal["auto", "on", "off"] = "auto"
    """Datasets of the hub: read from the network as they are needed, or download them first; auto: the large ones are streamed."""
    threads: int = 0
    """Threads that encode; 0 means one per core. The result is the same whatever their number."""

    def __post_init__(self) -> None:
        check_section("data", self, self._at_least(), below_one=("val_fraction",))

    def _at_least(self) -> dict[str, float]:
        return {"vocab_size": 257, "split_seed": 0, "threads": 0}


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig(CorpusConfig):
    """Which text, cut into which tokens, in which order."""

    source: str = ""
    """A prepared corpus, or raw text to prepare on the fly: file, folder, glob, '-' (stdin), 'python-docs', or a name of the hub."""
    windows: Literal["shuffled", "random"] = "shuffled"
    """Training windows: every one once an epoch in a new order, or each start drawn anew."""
    stride: int = 0
    """Tokens from one shuffled window's start to the next, up to the context length; 0 means the context length, so no overlap."""
    verify: bool = True
    """Compare the corpus with its SHA-256 before the first step: 0.5 to 2 seconds per GB, and a flipped bit is found."""
    document_mask: bool = False
    """Keep documents packed into one window from attending to each other."""

    def _at_least(self) -> dict[str, float]:
        return {**CorpusConfig._at_least(self), "stride": 0}


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingConfig:
    """How the weights change from step to step."""

    max_steps: int = 1000
    """Steps (updates of the weights) in the whole run, 1 or more."""
    batch_size: int = 16
    """Windows per step, over all micro-batches, 1 or more."""
    micro_batch_size: int | Literal["auto"] = 0
    """Windows per forward pass; fewer need less memory and change nothing else. 0: all of a batch, on a CPU only some seconds' work;
    auto: as many as fit the memory, counted once, when the run starts; its config.toml holds the number. Short: --micro-batch."""
    optimizer: Literal["auto", "adamw", "adamw8bit", "muon"] = "adamw"
    """AdamW for everything; adamw8bit: with a quarter of its memory; or Muon for the blocks' matrices with AdamW for the rest.
    auto: adamw8bit where it is the faster one (a CPU with AVX-512 and a C compiler), else adamw."""
    learning_rate: float = 6e-4
    """AdamW's highest learning rate, right after the warm-up: roughly the change of a weight per step, 0 or more; often 1e-4 to 1e-2."""
    muon_learning_rate: float = 0.02
    """Muon's highest learning rate, 0 or more, often 0.01 to 0.05; only for optimizer muon."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """How the learning rate falls after the warm-up, until the last step."""
    warmup_steps: int = 100
    """Steps over which the learning rate rises from 0 to its highest; 0 means no warm-up."""
    min_learning_rate_ratio: float = 0.1
    """The learning rate at the last step, as a share of the highest, 0 to 1."""
    weight_decay: float = 0.1
    """Share of a matrix taken off per step, times the learning rate (decoupled), 0 or more; biases and LayerNorm lose none."""
    beta1: float = 0.9
    """AdamW's running mean of the gradient: share kept from step to step, 0 to below 1."""
    beta2: float = 0.95
    """AdamW's running mean of the squared gradient: share kept from step to step, 0 to below 1."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this L2 norm, over all weights, where they exceed it; 0 means never."""
    skip_spikes: bool = False
    """Skip updates whose loss or gradient norm is more than 6 standard deviations above the last 128."""
    max_skipped_updates: int = 5
    """Updates skipped in a row (not finite, or spikes) after which the run stops, saved as before them; 1 or more."""
    seed: int = 1337
    """Seed of the initial weights, the dropout and the order of the data: a whole number from 0 to 2**63 - 1."""
    device: str = "auto"
    """Where to compute: auto, cpu, cuda, cuda:N or mps."""
    precision: Literal["auto", "float32", "tf32", "bf16", "fp16"] = "auto"
    """Number format of the matrix products; auto: bf16 where the device has it in hardware, else float32."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Compile the blocks; auto: on CUDA in runs of 500 steps or more. Compiling takes up to a minute first."""
    activation_checkpointing: bool = False
    """Compute activations twice instead of keeping them: less memory, about a third more time."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """How several processes hold the model: each one all of it (ddp), or each its share (fsdp: less memory). See docs/scaling.md."""
    rank_timeout_seconds: float = 600.0
    """How long a process waits for the others before it gives up, in seconds, 1 or more."""

    def __post_init__(self) -> None:
        low: dict[str, float] = {"max_steps": 1, "batch_size": 1, "warmup_steps": 0, "seed": 0, "max_skipped_updates": 1}
        low |= {} if self.micro_batch_size == "auto" else {"micro_batch_size": 0}
        low |= {"rank_timeout_seconds": 1, "learning_rate": 0, "muon_learning_rate": 0, "weight_decay": 0, "max_grad_norm": 0}
        check_section("training", self, low, up_to_one=("min_learning_rate_ratio",), below_one=("beta1", "beta2"))


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationConfig:
    """How often and how thoroughly the run looks at itself."""

    interval: int = 250
    """Steps between evaluations on validation text, 1 or more; the last step is always evaluated, on all of it."""
    time_share: float = 0.1
    """Share of the training time that evaluations may take, 0 to 1: it fixes how much validation text each one reads."""
    stride: int = 0
    """Tokens from one validation window to the next, up to the context length; 0 means that. Less gives every token more context."""
    prompt: str = ""
    """What samples of text begin with; empty: a new document."""
    sample_tokens: int = 100
    """Tokens per sample of text, written at each evaluation; 0 means no samples."""

    def __post_init__(self) -> None:
        check_section("evaluation", self, {"interval": 1, "stride": 0, "sample_tokens": 0}, up_to_one=("time_share",))


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckpointConfig:
    """What is kept. The last state and the best one by validation loss always are."""

    interval: int = 500
    """Steps between checkpoints; 0 means only the best and the last."""
    keep: int = 2
    """How many of the newest checkpoints stay, 1 or more, beside the best."""
    on_full_disk: Literal["continue", "stop"] = "continue"
    """Where there is no room for a checkpoint: train on and try again when the next is due, or stop. Older ones stay as they are."""

    def __post_init__(self) -> None:
        check_section("checkpoints", self, {"interval": 0, "keep": 1})


@dataclass(frozen=True, kw_only=True, slots=True)
class LoggingConfig:
    """What the run tells."""

    interval: int = 10
    """Steps between lines of metrics.jsonl, 1 or more."""
    trackers: tuple[Literal["tensorboard", "wandb", "swanlab", "trackio"], ...] = ()
    """Dashboards that get the figures too, one or several; each needs the extra of its name. Offline: WANDB_MODE, SWANLAB_MODE."""
    project: str = "gpt-kit"
    """The project that wandb, swanlab and trackio file the run under; its name there is the run folder's."""

    def __post_init__(self) -> None:
        check_section("logging", self, {"interval": 1})


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """Everything that decides a run, apart from the folder it is written to."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    checkpoints: CheckpointConfig = field(default_factory=CheckpointConfig)
    logging: LoggingConfig = field(default_factory=LoggingConfig)


class Settings(Protocol):
    """What every kind of run has, pre-training and fine-tuning: a frozen dataclass of sections."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def model(self) -> ModelConfig:
        """The shape that is trained."""

    @property
    def training(self) -> TrainingConfig:
        """How the weights change."""

    @property
    def evaluation(self) -> EvaluationConfig:
        """How the run looks at itself."""

    @property
    def checkpoints(self) -> CheckpointConfig:
        """What is kept."""

    @property
    def logging(self) -> LoggingConfig:
        """What the run tells."""
