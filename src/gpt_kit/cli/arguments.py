"""Command line -> dataclass, by tyro: one definition gives the setting, its TOML key, its flag and its help."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import tyro

from gpt_kit.errors import ConfigError, DataError

if TYPE_CHECKING:
    from gpt_kit.generation import Sampling

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class SamplingArguments:
    """How a model writes, for every command that lets it."""

    max_new_tokens: int = 200
    """Most tokens to write, 1 or more."""
    temperature: float = 0.8
    """Spread of the choice, 0 or more: logits are divided by it; 0 always takes the most probable token."""
    top_k: int = 0
    """Choose among the k most probable tokens, 1 or more; 0 means all."""
    top_p: float = 1.0
    """Choose among the most probable tokens that together have this probability, above 0 to 1; 1 means all."""
    min_p: float = 0.0
    """Choose among tokens at least this share as probable as the most probable one, 0 to 1; 0 means all."""
    repetition_penalty: float = 1.0
    """Above 1 makes tokens that already occur less probable, below 1 (above 0) more; 1 changes nothing."""
    seed: int | None = None
    """Seed of the choice, 0 to 2^63 - 1; the same seed gives the same text. Without one, every run differs."""
    device: str = "auto"
    """Where to compute: auto, cpu, cuda, cuda:N or mps."""
    int8: bool = False
    """Compute in int8, on an x86 CPU: several times as fast, a little less exact."""

    def sampling(self) -> Sampling:
        """Raises: ConfigError for settings out of range."""
        from gpt_kit.generation import Sampling

        return Sampling(
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
        )


def parse(kind: type[T], verb: str, words: Sequence[str], default: T | None = None) -> T:
    """Read `words` as a `kind`. Leaves with exit code 2 and a message for what cannot be read."""
    name, style = f"gpt-kit {verb}", (tyro.conf.PositionalMetavarFromFieldName, tyro.conf.DisallowNone)  # help: SOURCE; no "{None}|PATH"
    if default is None:
        return tyro.cli(kind, prog=name, args=list(words), config=style)
    return tyro.cli(kind, prog=name, args=list(words), default=default, config=style)


def peek(words: Sequence[str], flag: str) -> str | None:
    """The value of `--flag VALUE` or `--flag=VALUE`, before the whole line is read. Raises: ConfigError when it has none."""
    for i, word in enumerate(words):
        if word.startswith(f"{flag}="):
            return word.partition("=")[2]
        if word == flag:
            if i + 1 == len(words) or words[i + 1].startswith("--"):
                raise ConfigError(f"{flag} needs a value after it")
            return words[i + 1]
    return None


def begun_run(words: Sequence[str], *data: str) -> Path | None:
    """The settings of the run that `--resume` goes on with; None where a run is yet to start.

    `data` are the flags that name the text: with one of them `--resume auto` may start a run, so that the same words serve a scheduler
    each time. Raises: ConfigError where there is nothing to go on with.
    """
    out, resume = peek(words, "--out"), peek(words, "--resume")
    if resume is None or wants_help(words):
        return None
    if out is None:
        raise ConfigError("--resume needs the run's folder as well: --out runs/NAME")
    if peek(words, "--config") is not None:
        return None
    own = Path(out) / "config.toml"
    if own.is_file():
        return own
    if resume == "auto" and any(peek(words, flag) for flag in data):
        return None
    raise ConfigError(
        f"{out}: nothing to resume (config.toml is missing). Start a run there without --resume, or check --out. "
        "With --data as well, --resume auto starts a run where there is none"
    )


def with_short_micro_batch(words: Sequence[str]) -> list[str]:
    """The words with `--micro-batch` in its full length."""
    return [re.sub(r"^--micro-batch(?=$|=)", "--training.micro-batch-size", word) for word in words]


def wants_help(words: Sequence[str]) -> bool:
    """Whether the line asks for help only."""
    return any(word in ("-h", "--help") for word in words)


def read_prompt(prompt: str) -> str:
    """The prompt itself, or standard input for '-'. Raises: DataError when that is not UTF-8."""
    if prompt != "-":
        return prompt
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise DataError(f"stdin: byte {error.start} of the prompt is not UTF-8. Convert it: iconv -f ENCODING -t UTF-8") from None
