"""`gpt-kit merge`: a LoRA adapter and its base -> one model that needs neither."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from gpt_kit.cli.arguments import parse


@dataclass(frozen=True, kw_only=True)
class MergeArguments:
    """Add a LoRA adapter to the weights of its base, in float32, and write them as one model; both stay as they are."""

    lora: tyro.conf.Positional[str]
    """A run or checkpoint that was trained with LoRA, or an adapter that peft saved."""
    destination: tyro.conf.Positional[Path]
    """The folder to write; it must not exist yet."""


def main(words: Sequence[str]) -> None:
    """Read, add, check, write."""
    arguments = parse(MergeArguments, "merge", words)

    from gpt_kit.cli.display import console, note
    from gpt_kit.errors import CheckpointError, DataError, TokenizerError
    from gpt_kit.files import atomic_folder
    from gpt_kit.locate import base_of_adapter, locate_model
    from gpt_kit.model import GPTModel
    from gpt_kit.tokenizers import load_tokenizer
    from gpt_kit.weights import load_weights, save_weights

    if arguments.destination.exists():
        raise DataError(f"{arguments.destination}: already exists. Choose another destination, or delete it first")
    source = locate_model(arguments.lora)
    base = base_of_adapter(source)
    if base is None:
        raise CheckpointError(f"{source}: a whole model, with no adapter to merge (adapter_config.json). It can be used as it is")
    model = GPTModel.from_pretrained(source)
    try:
        tokenizer = load_tokenizer(source)
    except TokenizerError as error:
        tokenizer = None
        note(f"merged without a tokenizer: {error}")
    with atomic_folder(arguments.destination) as folder:
        end_of_text_id = tokenizer.end_of_text_id if tokenizer else None
        save_weights(folder, model.config, model.exported_tensors(), end_of_text_id=end_of_text_id)
        if tokenizer:
            tokenizer.save(folder)
    total = sum(tensor.numel() for tensor in model.exported_tensors().values())
    console.print(f"{arguments.destination}: {total:,} parameters, {source} merged into {base}; a forward pass is finite")
    if model.head is not None and load_weights(base).config.tie_word_embeddings:
        note("the adapter changed the embedding or the head of a tied pair alone, so the merged model has a head of its own")
    console.print(f"next    gpt-kit generate {shlex.quote(str(arguments.destination))} --prompt '…'")
