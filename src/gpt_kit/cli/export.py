"""`gpt-kit export`: a model -> one GGUF file, for llama.cpp and what is built on it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from gpt_kit.cli.arguments import parse

if TYPE_CHECKING:
    from gpt_kit.tokenizers import Tokenizer
    from gpt_kit.weights.gguf_vocabulary import GGUFVocabulary


@dataclass(frozen=True, kw_only=True)
class ExportArguments:
    """Write a model with its tokenizer as one GGUF file; an adapter is merged with its base."""

    model: tyro.conf.Positional[str]
    """A run, a checkpoint, a Hugging Face folder, OpenAI's GPT-2 release files, or a hub name."""
    destination: tyro.conf.Positional[Path]
    """The file to write, such as model.gguf; it must not exist yet."""
    type: Literal["f32", "f16", "q8_0"] = "f16"
    """How matrices are held: f32 exactly, f16 in half the bytes, q8_0 (8 bits and a shared scale) in a good quarter."""


def main(words: Sequence[str]) -> None:
    """Read, check, write."""
    arguments = parse(ExportArguments, "export", words)

    from gpt_kit.cli.copying import refuse_existing
    from gpt_kit.cli.display import console
    from gpt_kit.locate import locate_model
    from gpt_kit.tokenizers import load_tokenizer
    from gpt_kit.weights import load_weights
    from gpt_kit.weights.gguf import check_gguf_shape, write_gguf

    destination = arguments.destination
    refuse_existing(destination)
    source = locate_model(arguments.model)
    weights, tokenizer = load_weights(source), load_tokenizer(source)
    check_gguf_shape(weights)
    vocabulary = _vocabulary_of(tokenizer, weights.config.vocab_size)
    size = write_gguf(destination, weights, vocabulary, kind=arguments.type, name=Path(arguments.model).name)
    total = sum(tensor.numel() for tensor in weights.tensors.values())
    chat = " and its chat format" if vocabulary.chat_template else ""
    console.print(
        f"{destination}: {total:,} parameters, matrices in {arguments.type}, with the {tokenizer.name} tokenizer{chat}; {size:,} bytes"
    )
    console.print(f"next    llama-server -m {shlex.quote(str(destination))}")


def _vocabulary_of(tokenizer: Tokenizer, vocab_size: int) -> GGUFVocabulary:
    from gpt_kit.tokenizers.base import BEGIN_OF_TEXT
    from gpt_kit.weights.gguf_vocabulary import gguf_vocabulary

    begin = tokenizer.special_tokens.get(tokenizer.roles.get("bos_token", BEGIN_OF_TEXT))
    return gguf_vocabulary(
        tokenizer.document(),
        vocab_size,
        end_of_text_id=tokenizer.end_of_text_id,
        begin_of_text_id=begin,
        chat_template=tokenizer.chat_template,
    )
