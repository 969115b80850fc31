"""A tokenizer from a corpus.

Byte-level BPE (Sennrich et al. 2016; over bytes: Radford et al. 2019) starts from the 256 bytes and merges the most frequent
neighbours until the vocabulary is full. Ids: bytes, merges in order, `<|endoftext|>` last, as in GPT-2. The same documents give
the same tokenizer.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Literal

from gpt_kit.errors import DataError, TokenizerError
from gpt_kit.tokenizers.base import END_OF_TEXT, Tokenizer, well_formed
from gpt_kit.tokenizers.document import byte_level_document
from gpt_kit.tokenizers.recognise import recognised
from gpt_kit.tokenizers.simple import ByteTokenizer, CharacterTokenizer

TRAINABLE = ("bpe", "char", "byte")
SMALLEST_VOCAB = 257


def train_tokenizer(kind: Literal["bpe", "char", "byte"], documents: Iterable[str], vocab_size: int = 4096) -> Tokenizer:
    """Learn a tokenizer from `documents`, which are read once.

    `vocab_size` counts entries with `<|endoftext|>`, for "bpe" alone; a small corpus may run out of pairs before it is reached.
    "char" takes the characters as they are; "byte" has nothing to learn and does not read the documents.
    Raises: DataError for an empty corpus, TokenizerError for an unknown kind or a vocabulary below 257.
    """
    if isinstance(documents, str):
        raise DataError("documents must be a list of texts; one text alone would be a document per character. Put it in a list")
    if kind == "byte":
        return ByteTokenizer()
    if kind == "char":
        characters: set[str] = set()
        for document in _not_empty(documents):
            characters.update(document)
        return CharacterTokenizer(sorted(characters))
    if kind == "bpe":
        return _train_bpe(documents, vocab_size)
    raise TokenizerError(f"unknown tokenizer kind {kind!r}. Kinds that can be trained: {', '.join(TRAINABLE)}")


def _train_bpe(documents: Iterable[str], vocab_size: int) -> Tokenizer:
    if vocab_size < SMALLEST_VOCAB:
        raise TokenizerError(f"vocab_size {vocab_size} is too small for bpe: 256 bytes and {END_OF_TEXT} need {SMALLEST_VOCAB}")
    from tokenizers import Tokenizer as Engine
    from tokenizers import models, pre_tokenizers, trainers

    engine = Engine(models.BPE())
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 1,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    engine.train_from_iterator(_not_empty(documents), trainer)
    model = json.loads(engine.to_str())["model"]
    return recognised(byte_level_document(model["vocab"], model["merges"], {END_OF_TEXT: len(model["vocab"])}), {})


def _not_empty(documents: Iterable[str]) -> Iterator[str]:
    """The documents in well-formed Unicode. Raises: DataError at the end when none of them held any text."""
    seen = False
    for document in documents:
        seen = seen or bool(document)
        yield well_formed(document)
    if not seen:
        raise DataError("the corpus is empty, so there is nothing to learn a tokenizer from. Give at least one document with text")
