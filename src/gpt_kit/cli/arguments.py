"""Command line -> dataclass, by tyro: one definition gives the setting, its TOML key, its flag and its help."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TypeVar

import tyro

from gpt_kit.errors import ConfigError, DataError

T = TypeVar("T")


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
