"""Fine-tuning runs, as plain frozen facts: what they start from, what they learn, and how. The other sections are pre-training's."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from gpt_kit.config.lora import LoraConfig
from gpt_kit.config.model import ModelConfig
from gpt_kit.config.run import CheckpointConfig, EvaluationConfig, LoggingConfig, TrainingConfig, check_section

AS_MANY_AS_EPOCHS_SAY = 10**9


@dataclass(frozen=True, kw_only=True, slots=True)
class SftConfig:
    """Which conversations are learned, from which model on."""

    base: str = ""
    """The model to start from: a run, a checkpoint, a Hugging Face folder or hub name. Short: --model."""
    data: str = ""
    """Conversations: .json or .jsonl (instruction records, messages, ShareGPT), a folder of these, or a name of the hub. Short: --data."""
    val: str = ""
    """Conversations to validate on, in the same forms; empty: a share of the data is set aside."""
    val_fraction: float = 0.05
    """That share, 0 to below 1; 0 sets none aside."""
    split_seed: int = 1337
    """Seed of the choice of what is set aside: a whole number from 0 to 2**63 - 1."""
    template: str = "plain"
    """How a record of instruction and input becomes a question: plain, alpaca, or a text of your own with {instruction} and {input}."""
    epochs: float = 2.0
    """How often every conversation is learned from, above 0; --training.max-steps can end the run before."""
    max_length: int = 0
    """Most tokens of a conversation; 0 means the model's context. Whole exchanges at the end of a longer one are left out."""
    on_unusable: Literal["auto", "error", "skip"] = "auto"
    """Conversations that cannot teach (too long for their answer, without one): refuse the data, or leave them out with a count;
    auto: left out of hub datasets, refused in files of your own."""
    freeze: tuple[str, ...] = ()
    """Weights that are not trained, by patterns of their names such as token_embedding* or blocks.[0-9].*; see gpt-kit info MODEL."""

    def __post_init__(self) -> None:
        check_section("sft", self, {"split_seed": 0, "epochs": 0, "max_length": 0}, below_one=("val_fraction",))


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassifyConfig:
    """Which labelled texts are learned, from which model on. The usual settings are those of GPT-1 (Radford et al. 2018, section 4.1)."""

    base: str = ""
    """The model to start from: a run, a checkpoint, a Hugging Face folder or hub name. Short: --model."""
    data: str = ""
    """Labelled texts: .tsv, .csv, .jsonl or .json, with a text and a label each. Short: --data."""
    val: str = ""
    """Labelled texts to validate on, in the same forms; empty: a share of the data is set aside. Short: --val."""
    val_fraction: float = 0.1
    """That share, 0 to below 1; 0 sets none aside."""
    split_seed: int = 1337
    """Seed of the choice of what is set aside: a whole number from 0 to 2**63 - 1."""
    text_key: str = ""
    """The column or key that holds the text; empty: text, sentence, review or content; in a table without a header the first column."""
    label_key: str = ""
    """The column or key that holds the label; empty: label, labels, class, category, sentiment or target; without a header the second."""
    labels: tuple[str, ...] = ()
    """Names of the labels 0, 1, … in their order; empty: as they stand in the data."""
    class_weights: Literal["equal", "balanced"] | tuple[float, ...] = "equal"
    """How much an example of each label counts: equally; balanced: so that all labels count the same; or a number per label."""
    lm_weight: float = 0.5
    """Weight of the language model's loss on the same texts beside that of the labels, 0 or more (GPT-1's lambda)."""
    epochs: float = 3.0
    """How often every text is learned from, above 0; --training.max-steps can end the run before."""
    warmup_share: float = 0.002
    """Share of all steps in which the learning rate rises, 0 to 1, where --training.warmup-steps gives no number."""
    dropout: float = 0.1
    """Share of what the labels are read from that is dropped in training, 0 to below 1."""
    inner_dropout: Literal["base"] | float = "base"
    """Share of embeddings, attention weights and layers' outputs dropped in training, 0 to below 1; base: as the base was trained."""
    closing_token: bool = False
    """Put the end token behind every text and read its label from there, as GPT-1 does; without it, from the text's own last token."""
    max_length: int = 0
    """Tokens that are read of a text, from its beginning, the closing one included; 0 means the model's context."""
    freeze: tuple[str, ...] = ()
    """Weights that are not trained, by patterns of their names such as token_embedding* or blocks.[0-9].*; see gpt-kit info MODEL."""
    bag_of_words: bool = True
    """Teach the same texts to a logistic regression over word counts as well, and tell how far it comes."""

    def __post_init__(self) -> None:
        low: dict[str, float] = {"split_seed": 0, "epochs": 0, "max_length": 0, "lm_weight": 0}
        below_one = ("val_fraction", "dropout", *(() if self.inner_dropout == "base" else ("inner_dropout",)))
        check_section("classify", self, low, up_to_one=("warmup_share",), below_one=below_one)


def _training() -> TrainingConfig:
    return TrainingConfig(
        max_steps=AS_MANY_AS_EPOCHS_SAY, batch_size=8, optimizer="auto", learning_rate=5e-5, warmup_steps=10, schedule="linear",
        min_learning_rate_ratio=0.0, weight_decay=0.0, beta2=0.999,
    )  # fmt: skip


def _training_of_gpt1() -> TrainingConfig:
    return TrainingConfig(
        max_steps=AS_MANY_AS_EPOCHS_SAY, batch_size=32, learning_rate=6.25e-5, warmup_steps=0, schedule="linear",
        min_learning_rate_ratio=0.0, weight_decay=0.01, beta2=0.999,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class SftRun:
    """Everything that decides a run of supervised fine-tuning, apart from the folder it is written to."""

    model: ModelConfig = field(default_factory=ModelConfig)
    """The base's shape, with the vocabulary grown by the chat format's tokens."""
    sft: SftConfig = field(default_factory=SftConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    training: TrainingConfig = field(default_factory=_training)
    evaluation: EvaluationConfig = field(default_factory=lambda: EvaluationConfig(interval=50))
    checkpoints: CheckpointConfig = field(default_factory=CheckpointConfig)
    logging: LoggingConfig = field(default_factory=LoggingConfig)


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassifyRun:
    """Everything that decides a run of classification, apart from the folder it is written to."""

    model: ModelConfig = field(default_factory=ModelConfig)
    """The base's shape, with an end token added to its vocabulary if it had none."""
    classify: ClassifyConfig = field(default_factory=ClassifyConfig)
    training: TrainingConfig = field(default_factory=_training_of_gpt1)
    evaluation: EvaluationConfig = field(default_factory=lambda: EvaluationConfig(interval=100, sample_tokens=0))
    checkpoints: CheckpointConfig = field(default_factory=CheckpointConfig)
    logging: LoggingConfig = field(default_factory=LoggingConfig)
