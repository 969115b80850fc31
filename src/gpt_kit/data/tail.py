"""The contiguous split of a source that was too large to be held: all of it was written for training, and now its end moves to val.

The border is the one between two units that comes closest to the wanted share of bytes, so the counts of both sides are known
without decoding anything. First the end is copied, then (told by a journal in between) cut off: a kill at any moment can be made
up for.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gpt_kit.data.duplicates import Digests
from gpt_kit.data.shards import ShardReader, ShardWriter, TokenArray
from gpt_kit.data.writing import MARK, Written, mark_file
from gpt_kit.tokenizers import Tokenizer

_TOKENS_AT_ONCE = 1 << 20


def find_border(notes: Path, val_fraction: float) -> dict[str, int]:
    """What stands before the border, by the names of MARK; at least one unit is left on either side where there are two."""
    marks = np.fromfile(mark_file(notes), dtype="<i8").reshape(-1, len(MARK))
    sizes = marks[:, MARK.index("bytes")]
    number = int(np.abs(sizes - (1 - val_fraction) * sizes[-1]).argmin())
    number = min(number, len(marks) - 2) if val_fraction > 0 and len(marks) > 1 else len(marks) - 1
    return dict(zip(MARK, map(int, marks[number]), strict=True))


def copy_tail(folder: Path, tokenizer: Tokenizer, border: dict[str, int], whole: dict[str, int]) -> Written:
    """Write what stands behind `border` in the training shards as validation shards. Gives what either side then holds."""
    for stale in folder.glob("val-*.tokens"):
        stale.unlink()
    train = TokenArray([ShardReader(path, tokenizer.fingerprint) for path in sorted(folder.glob("train-*.tokens"))])
    with ShardWriter(folder, "val", tokenizer.vocab_size, tokenizer.fingerprint) as val:
        if border["in_document"] and tokenizer.end_of_text_id is not None:
            val.write([tokenizer.end_of_text_id])
        for start in range(border["tokens"], len(train), _TOKENS_AT_ONCE):
            val.write(train.read(start, min(_TOKENS_AT_ONCE, len(train) - start)))
        val.flush()  # before train loses it
    behind = {name: whole[name] - border[name] for name in MARK[:-1]}
    moved = {**behind, "tokens": val.num_tokens, "documents": behind["documents"] + border["in_document"]}
    return {"train": {name: border[name] for name in MARK[:-1]}, "val": moved}


def cut_off_tail(folder: Path, tokenizer: Tokenizer, tokens: int) -> None:
    """Leave only the first `tokens` of the training shards; doing it again changes nothing."""
    ShardWriter(folder, "train", tokenizer.vocab_size, tokenizer.fingerprint, keep=tokens).close()


def digests_of(whole: Digests, written: Written) -> tuple[Digests, Digests]:
    """The digests of either side, from those of all documents in order."""
    return whole[: written["train"]["digests"]], whole[written["train"]["digests"] :]
