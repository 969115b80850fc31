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

    from gpt_kit.cli.copying import copy_model, refuse_existing
    from gpt_kit.cli.display import console, note
    from gpt_kit.errors import CheckpointError
    from gpt_kit.locate import base_of_adapter, locate_model
    from gpt_kit.weights import load_weights

    refuse_existing(arguments.destination)
    source = locate_model(arguments.lora)
    base = base_of_adapter(source)
    if base is None:
        raise CheckpointError(f"{source}: a whole model, with no adapter to merge (adapter_config.json). It can be used as it is")
    model, _ = copy_model(source, arguments.destination, f"{source} merged into {base}")
    if model.head is not None and load_weights(base).config.tie_word_embeddings:
        note("the adapter changed the embedding or the head of a tied pair alone, so the merged model has a head of its own")
    console.print(f"next    gpt-kit generate {shlex.quote(str(arguments.destination))} --prompt '…'")
