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

    from gpt_kit.cli.display import console, note
    from gpt_kit.errors import DataError, TokenizerError
    from gpt_kit.files import atomic_folder
    from gpt_kit.locate import locate_model
    from gpt_kit.model import GPTModel
    from gpt_kit.tokenizers import load_tokenizer
    from gpt_kit.weights import save_weights

    if arguments.destination.exists():
        raise DataError(f"{arguments.destination}: already exists. Choose another destination, or delete it first")
    source = locate_model(arguments.source)
    model = GPTModel.from_pretrained(source)
    try:
        tokenizer = load_tokenizer(source)
    except TokenizerError as error:
        tokenizer = None
        note(f"imported without a tokenizer: {error}")
    with atomic_folder(arguments.destination) as folder:
        end_of_text_id = tokenizer.end_of_text_id if tokenizer else None
        save_weights(folder, model.config, model.exported_tensors(), end_of_text_id=end_of_text_id)
        if tokenizer:
            tokenizer.save(folder)
    total = sum(tensor.numel() for tensor in model.exported_tensors().values())
    destination, command = arguments.destination, f"gpt-kit generate {shlex.quote(str(arguments.destination))} --prompt '…'"
    console.print(f"{destination}: {total:,} parameters, {model.config.n_layer} layers; a forward pass is finite")
    if tokenizer is None:
        command = f"copy the model's tokenizer (tokenizer.json, or vocab.json and merges.txt) into {destination}; then {command}"
    console.print(f"next    {command}")
