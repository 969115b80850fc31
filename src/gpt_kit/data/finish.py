"""What every way of preparing a corpus has in common: its tokenizer, writing encoded units, and corpus.json at the end."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from gpt_kit.config import CorpusConfig
from gpt_kit.data.corpus import FORMAT, Progress, absolute_source
from gpt_kit.data.duplicates import Digests, count_duplicates
from gpt_kit.data.encoding import SIDES, Unit
from gpt_kit.data.leaks import WINDOW, find_leaks
from gpt_kit.data.shards import INFO, ShardReader, TokenArray
from gpt_kit.data.writing import CorpusWriter, Written, bytes_in
from gpt_kit.files import PROGRESS, write_json
from gpt_kit.tokenizers import Tokenizer, load_tokenizer, train_tokenizer


def make_tokenizer(config: CorpusConfig, everything: Iterable[str], training: Iterable[str], progress: Progress) -> Tokenizer:
    """The tokenizer that `config` names, or one that is learned: bpe from the `training` texts, characters from all of them."""
    if config.tokenizer == "char":  # every character must have an id, also those that only validation text uses
        progress("collecting characters", 0, 0)
        return train_tokenizer("char", everything)
    if config.tokenizer == "bpe":
        progress("training the tokenizer", 0, 0)
        return train_tokenizer("bpe", training, vocab_size=config.vocab_size)
    return load_tokenizer(config.tokenizer)


def write_units(
    writer: CorpusWriter, encoded: Iterable[tuple[Unit, Any]], all_bytes: Callable[[], int], progress: Progress
) -> Iterator[Unit]:
    """Write units, each yielded once it is written. `all_bytes`: of text in all, as far as that is known (0: not at all)."""
    for unit, ids in encoded:
        writer.write(unit, ids)
        progress("encoding", bytes_in(writer.written), all_bytes())
        yield unit


def finish(
    folder: Path,
    source: str,
    settings: dict[str, Any],
    tokenizer: Tokenizer,
    split: str,
    written: Written,
    digests: tuple[Digests, Digests] | None,
    report: dict[str, Any],
    progress: Progress,
    learned_from: int = 0,
    joined: int = 0,
) -> None:
    """Write corpus.json.

    `digests`: of the documents of either side, None where what was prepared elsewhere has left none: duplicates are then not counted.
    `learned_from`: bytes of training text that a bpe tokenizer learned from. `joined`: how many corpora were.
    """
    size = bytes_in(written)
    progress("counting duplicates", size, 0)
    duplicates, seen = count_duplicates(*digests, folder / PROGRESS) if digests else (None, None)
    shards = {side: sorted(path.name for path in folder.glob(f"{side}-*.tokens")) for side in SIDES}
    sides = {side: TokenArray([ShardReader(folder / name, tokenizer.fingerprint) for name in shards[side]]) for side in SIDES}
    end = tokenizer.end_of_text_id
    leaks = find_leaks(sides["train"], sides["val"], end, lambda share: progress("comparing", round(share * size), size))
    example: dict[str, Any] | None = leaks.example and {
        **leaks.example,
        "text": tokenizer.decode(sides["val"].read(leaks.example["val"], WINDOW)),
    }
    info: dict[str, Any] = {
        "format": FORMAT,
        "source": absolute_source(source),
        "settings": settings,
        "tokenizer": tokenizer.name,
        "tokenizer_fingerprint": tokenizer.fingerprint,
        "vocab_size": tokenizer.vocab_size,
        **({"tokenizer_learned_from_bytes": learned_from} if learned_from else {}),
        **({"joined": joined} if joined else {}),
        "split": split,
        "read": report,
        "duplicates": duplicates,
        "val_documents_seen_in_training": seen,
        "near_duplicates": {**dataclasses.asdict(leaks), "example": example},
    }
    for side, own in written.items():
        info[side] = {**{name: own[name] for name in ("tokens", "documents", "bytes", "characters")}, "shards": shards[side]}
    write_json(folder / INFO, info)
