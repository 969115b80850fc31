"""`gpt-kit import`: published weights -> a folder that the kit and transformers both open."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from gpt_kit.cli.arguments import parse


@dataclass(frozen=True, kw_only=True)
class ImportArguments:
    """Convert OpenAI's TensorFlow GPT-2 folder, OpenAI's GPT-1 arrays, or a Hugging Face model; every shape is checked."""

    source: tyro.conf.Positional[str]
    """The published folder, or a hub name such as gpt2."""
    destination: tyro.conf.Positional[Path]
    """The folder to write; it must not exist yet."""


def main(words: Sequence[str]) -> None:
    """Read, check, write."""
    arguments = parse(ImportArguments, "import", words)

    from gpt_kit.cli.copying import copy_model, refuse_existing
    from gpt_kit.cli.display import console
    from gpt_kit.locate import locate_model

    destination = arguments.destination
    refuse_existing(destination)
    _, tokenizer = copy_model(locate_model(arguments.source), destination, "imported")
    command = f"gpt-kit generate {shlex.quote(str(destination))} --prompt '…'"
    if tokenizer is None:
        command = f"copy the model's tokenizer (tokenizer.json, or vocab.json and merges.txt) into {destination}; then {command}"
    console.print(f"next    {command}")
