"""Is this text sound? It opens, its tokenizer fits, its ids are in range, its two sides differ, and there is enough of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpt_kit.data import Corpus, open_corpus
from gpt_kit.data.leaks import find_leaks
from gpt_kit.data.shards import TokenArray
from gpt_kit.doctor.checks import Check
from gpt_kit.files import check_manifest
from gpt_kit.tokenizers import Tokenizer

HASHED_BYTES = 20 * 10**9  # up to here every byte is checked, in some seconds
READ_TOKENS, CHUNKS = 64_000_000, 64  # of a long text, this much is read, in chunks from all over it
MOST_LEAKED = 0.1  # of the documents of the validation text
FEWEST_VAL_TOKENS = 1000  # the loss on fewer is known to no better than a few hundredths of a nat


def corpus_checks(folder: Path, length: int, model_tokenizer: Callable[[], Tokenizer] | None = None) -> list[Check]:
    """Whether the corpus in `folder` can teach a model with a context of `length` tokens, and with the tokenizer that is loaded then."""

    @cache
    def corpus() -> Corpus:
        return open_corpus(folder, verify=False)  # the next check looks at every byte

    again = "prepare the text again: gpt-kit prepare SOURCE --out FOLDER"
    other = "copy the model's tokenizer files beside it, or prepare the text with --tokenizer MODEL"
    return [
        Check("corpus opens", lambda: (True, f"{corpus().info['source']}, tokenizer {corpus().tokenizer.name}"), again, opens=True),
        Check("every byte as it was written", partial(_bytes, folder), again),
        Check("ids within the vocabulary", lambda: _ids(corpus()), again),
        Check("text -> ids -> text", lambda: _round_trip(corpus()), f"ids of another tokenizer read as noise; {again}"),
        Check("tokenizer is the model's", lambda: _same(corpus(), model_tokenizer), other),
        Check("validation text is not training text", lambda: _sides(corpus()), "a loss on text seen in training says nothing: " + again),
        Check("long enough", lambda: _length(corpus(), length), "more text, or a shorter context (--model.max-position-embeddings)"),
    ]


def _bytes(folder: Path) -> tuple[bool, str]:
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    if size > HASHED_BYTES:
        return True, f"{size / 1e9:.1f} GB, too much to hash here"
    check_manifest(folder)
    return True, f"{size / 1e6:,.1f} MB match their SHA-256"


def _read(corpus: Corpus) -> Iterator[NDArray[np.int64]]:
    """All of a short text, chunks from all over a long one."""
    for side in (corpus.train, corpus.val):
        chunk = min(len(side), READ_TOKENS // CHUNKS)
        count = min(CHUNKS, -(-len(side) // chunk)) if chunk else 0
        for start in np.linspace(0, len(side) - chunk, count).astype(int):
            yield side.read(int(start), chunk)


def _ids(corpus: Corpus) -> tuple[bool, str]:
    highest, entries = max((int(ids.max()) for ids in _read(corpus)), default=-1), corpus.tokenizer.vocab_size
    return 0 <= highest < entries, f"highest {highest:,}, of {entries:,} entries"


def _round_trip(corpus: Corpus) -> tuple[bool, str]:
    """Ids are not unique (one text may be cut in two ways), but the text that they spell is."""
    ids = corpus.train.read(0, min(len(corpus.train), 2000)).tolist()
    text = corpus.tokenizer.decode([i for i in ids if i != corpus.tokenizer.end_of_text_id])
    again = corpus.tokenizer.decode(corpus.tokenizer.encode(text))
    broken = text.count("\ufffd") / max(1, len(text))
    return again == text and broken < 0.01, f"{len(text):,} characters, {broken:.1%} unreadable; it begins {text[:30]!r}"


def _same(corpus: Corpus, model_tokenizer: Callable[[], Tokenizer] | None) -> tuple[bool, str]:
    if model_tokenizer is None:
        return True, "no model to compare with"
    models = model_tokenizer()
    return models.fingerprint == corpus.tokenizer.fingerprint, f"text: {corpus.tokenizer.name}, model: {models.name}"


def _sides(corpus: Corpus) -> tuple[bool, str]:
    train = TokenArray([corpus.train.read(0, min(len(corpus.train), READ_TOKENS // 2))])
    leaks = find_leaks(train, corpus.val, corpus.tokenizer.end_of_text_id)
    near, checked = leaks.documents_near_training, leaks.documents_checked
    return near <= MOST_LEAKED * checked, f"{near} of {checked} documents stand in training text, exactly or nearly"


def _length(corpus: Corpus, length: int) -> tuple[bool, str]:
    train, val = len(corpus.train), len(corpus.val)
    enough = train > length and (val == 0 or val >= FEWEST_VAL_TOKENS)
    return enough, f"{train:,} tokens to train on, {val:,} to validate; a window needs {length + 1:,}"
