"""The shape of a model, as plain data, and the published shapes by name.

`create_model_config("gpt2-small (124M)", n_layer=2)` is a published shape with changes. Sources: Radford et al. 2018 section 4.1
(GPT-1) and Radford et al. 2019 table 2 (GPT-2); the sizes of GPT-2 are those of the released weights. A shape that cannot be built is
a ConfigError that lists everything that is wrong with it.
"""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from gpt_kit.config.suggest import did_you_mean
from gpt_kit.errors import ConfigError

Positions = Literal["learned", "sinusoidal", "rotary"]
Norm = Literal["pre", "post"]
HEAD_WIDTH = 64  # channels D of one head in every published size of GPT-1 and GPT-2


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """Shape of one decoder-only transformer."""

    vocab_size: int = 50257
    """Entries V of the vocabulary, in tokens, 1 or more. Training takes it from the tokenizer."""
    max_position_embeddings: int = 1024
    """Context length T, in tokens, 1 or more: the most the model can look at, and the length of a training window."""
    n_embd: int = 768
    """Width C of the residual stream, in channels: a multiple of n_head."""
    n_layer: int = 12
    """Number of transformer blocks, 1 or more."""
    n_head: int = 12
    """Number of attention heads H per block; must divide n_embd. Left out beside an n_embd that the preset's do not divide: n_embd / 64."""
    n_inner: int = 0
    """Hidden width of the feed-forward layers, in channels; 0 means 4 x n_embd."""
    norm: Norm = "pre"
    """Where LayerNorm stands: before each layer plus once at the end (GPT-2), or after each residual sum (GPT-1)."""
    position_embedding: Positions = "learned"
    """How a token knows its position: a learned table, fixed sinusoids (Vaswani et al. 2017, 3.5), or rotary (Su et al. 2021)."""
    qkv_bias: bool = True
    """Add a bias to the query, key and value projections."""
    tie_word_embeddings: bool = True
    """Use the token embedding as the output head too."""
    scale_embeddings: bool = False
    """Multiply token embeddings by sqrt(n_embd) (Vaswani et al. 2017, 3.4)."""
    embedding_dropout: float = 0.1
    """Share of embedding channels dropped in training, 0 to below 1; 0 drops none."""
    attention_dropout: float = 0.1
    """Share of attention weights dropped in training, 0 to below 1; 0 drops none."""
    residual_dropout: float = 0.1
    """Share of each layer's output dropped in training, 0 to below 1; 0 drops none."""
    layer_norm_epsilon: float = 1e-5
    """Added to the variance inside LayerNorm, above 0."""
    initializer_range: float = 0.02
    """Standard deviation of the initial weights, above 0; with norm = pre, residual projections get it divided by sqrt(2 x n_layer)."""
    vocab_multiple: int = 1
    """Pad the embedding inside the model to a multiple of this many rows, 1 or more (64 suits GPUs); never seen from outside."""

    def __post_init__(self) -> None:
        if problems := value_problems(self) or _range_problems(self):
            raise ConfigError("this model cannot be built:\n  - " + "\n  - ".join(problems))

    @property
    def head_width(self) -> int:
        """Channels D of one attention head."""
        return self.n_embd // self.n_head

    @property
    def inner_width(self) -> int:
        """Hidden width of the feed-forward layers."""
        return self.n_inner or 4 * self.n_embd

    @property
    def padded_vocab_size(self) -> int:
        """Rows of the embedding inside the model."""
        return -(-self.vocab_size // self.vocab_multiple) * self.vocab_multiple


_GPT2_SIZES = {
    "gpt2-small (124M)": {"n_embd": 768, "n_layer": 12, "n_head": 12},
    "gpt2-medium (355M)": {"n_embd": 1024, "n_layer": 24, "n_head": 16},
    "gpt2-large (774M)": {"n_embd": 1280, "n_layer": 36, "n_head": 20},
    "gpt2-xl (1558M)": {"n_embd": 1600, "n_layer": 48, "n_head": 25},
}
PRESETS: dict[str, dict[str, Any]] = {
    **_GPT2_SIZES,
    "gpt1 (117M)": {"n_embd": 768, "n_layer": 12, "n_head": 12, "vocab_size": 40478, "max_position_embeddings": 512, "norm": "post"},
}
SHORT_NAMES = {
    "gpt2": "gpt2-small (124M)",
    "gpt2-small": "gpt2-small (124M)",
    "gpt2-medium": "gpt2-medium (355M)",
    "gpt2-large": "gpt2-large (774M)",
    "gpt2-xl": "gpt2-xl (1558M)",
    "openai-gpt": "gpt1 (117M)",
    "gpt1": "gpt1 (117M)",
}


def create_model_config(name: str = "gpt2-small (124M)", **changes: Any) -> ModelConfig:
    """A published shape by its name or short name, with changes by keyword.

    A new n_embd gets heads that fit it (`fitting_heads`); a given n_head is never changed.

    Raises: ConfigError for an unknown name, an unknown key, or a shape that cannot be built.
    """
    if name not in PRESETS and name not in SHORT_NAMES:
        known = [*SHORT_NAMES, *PRESETS]
        raise ConfigError(f"unknown model {name!r}{did_you_mean(name, known)}. Known models: {', '.join(known)}")
    known_keys = [field.name for field in dataclasses.fields(ModelConfig)]
    for key in changes:
        if key not in known_keys:
            raise ConfigError(f"unknown model setting {key!r}{did_you_mean(key, known_keys)}. Known: {', '.join(known_keys)}")
    shape = {**PRESETS[SHORT_NAMES.get(name, name)], **changes}
    if "n_head" not in changes and isinstance(shape["n_embd"], int):
        shape["n_head"] = fitting_heads(shape["n_embd"], shape["n_head"])
    return ModelConfig(**shape)


def fitting_heads(n_embd: int, n_head: int) -> int:
    """`n_head`, or n_embd / 64 where only that divides the width: 64 channels is the width of a head in every published size."""
    return n_embd // HEAD_WIDTH if n_embd > 0 and n_embd % n_head and n_embd % HEAD_WIDTH == 0 else n_head


def value_problem(value: Any, kind: Any) -> str | None:
    """Why `value` is none for a setting of type `kind`, as "must be …"; None when it is one. Numbers are finite and fit into 64 bits."""
    if get_origin(kind) is tuple:
        if not isinstance(value, tuple | list):
            return "must be a list"
        return next((problem for item in value if (problem := value_problem(item, get_args(kind)[0]))), None)
    if get_origin(kind) in (Union, UnionType):  # with a Literal in it, get_type_hints gives a Union
        problems = [value_problem(value, choice) for choice in get_args(kind)]
        return None if None in problems else "must be " + " or ".join(str(problem).removeprefix("must be ") for problem in problems)
    if choices := get_args(kind):
        return None if value in choices else f"must be one of {', '.join(choices)}{did_you_mean(str(value), choices)}"
    expected = {bool: "true or false", int: "a whole number", float: "a number", str: "a text in quotes"}[kind]
    if not isinstance(value, int | float if kind is float else kind) or (isinstance(value, bool) and kind is not bool):
        return f"must be {expected}"
    if kind is float and not abs(value) <= sys.float_info.max:  # also true for NaN
        return "must be finite"
    return "must be below 2**63" if kind is int and abs(value) >= 2**63 else None


def value_problems(section: Any) -> list[str]:
    """What `value_problem` says of each setting of a section."""
    problems = []
    for name, kind in get_type_hints(type(section)).items():
        value = getattr(section, name)
        if problem := value_problem(value, kind):
            problems.append(f"{name} {problem}; got {value!r}")
    return problems


def _range_problems(config: ModelConfig) -> list[str]:
    problems = []
    for name in ("vocab_size", "max_position_embeddings", "n_embd", "n_layer", "n_head", "vocab_multiple"):
        if getattr(config, name) < 1:
            problems.append(f"{name} must be at least 1; got {getattr(config, name)}")
    if config.n_inner < 0:
        problems.append(f"n_inner must be 0 (4 x n_embd) or more; got {config.n_inner}")
    for name in ("embedding_dropout", "attention_dropout", "residual_dropout"):
        if not 0 <= getattr(config, name) < 1:
            problems.append(f"{name} must be at least 0 and below 1; got {getattr(config, name)}")
    for name in ("layer_norm_epsilon", "initializer_range"):
        if not getattr(config, name) > 0:
            problems.append(f"{name} must be above 0; got {getattr(config, name)}")
    if not problems and config.n_embd % config.n_head:
        lower = config.n_embd // config.n_head * config.n_head
        nearest = f"{lower} or {lower + config.n_head}" if lower else f"{config.n_head}"
        problems.append(f"n_embd ({config.n_embd}) must be a multiple of n_head ({config.n_head}); nearest: {nearest}")
    if config.position_embedding == "sinusoidal" and config.n_embd % 2:
        problems.append(f"sinusoidal positions need an even n_embd; got {config.n_embd}")
    if not problems and config.position_embedding == "rotary" and config.head_width % 2:
        problems.append(f"rotary positions need an even head width; n_embd / n_head is {config.head_width}")
    return problems
