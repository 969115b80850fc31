"""train.bin and val.bin: nothing but uint16 ids, as nanoGPT and tools in its manner read and write them.

Nothing in such a file says which tokenizer made it: that lies beside it, or has to be named. Ids outside its vocabulary are refused.
Ids go in and out as they are: the end token, which stands in front of a document here and behind it there, is counted and
not moved.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt_kit.data.shards import ShardWriter, TokenArray
from gpt_kit.errors import DataError
from gpt_kit.files import atomic_folder
from gpt_kit.tokenizers import Tokenizer, load_tokenizer

TRAIN, VAL, SUFFIX = "train.bin", "val.bin", ".bin"
LARGEST_VOCAB = 2**16
_AT_ONCE = 1 << 20
_NAME_IT = "Name the tokenizer that made them with --tokenizer: gpt2, byte, or a folder that holds it"


def bin_files(source: str) -> dict[str, Path] | None:
    """The .bin files that `source` names, by side ("train", and "val" if there is one); None where it is none of these."""
    path = Path(source).expanduser()
    try:
        if path.is_file() and path.suffix == SUFFIX:
            return {"train": path}
        files = {"train": path / TRAIN, "val": path / VAL}
        return {side: file for side, file in files.items() if file.is_file()} if files["train"].is_file() else None
    except OSError:  # longer than any name can be
        return None


def has_tokenizer(files: dict[str, Path]) -> bool:
    """Whether a tokenizer lies beside the ids."""
    return (files["train"].parent / "tokenizer.json").is_file()


def tokenizer_of_bins(source: str, files: dict[str, Path], named: str | None) -> Tokenizer:
    """The tokenizer that made the ids: the one that lies beside them, or else the one that was `named`.

    Raises: DataError where there is neither, where both contradict each other, or where the named one is learned from text.
    """
    beside = load_tokenizer(files["train"].parent) if has_tokenizer(files) else None
    if named in ("bpe", "char"):
        raise DataError(f"{source}: holds ids, and tokenizer {named!r} is learned from text. {_NAME_IT}")
    if named is None and beside is None:
        raise DataError(f"{source}: holds ids, and nothing says what they mean. {_NAME_IT}")
    if named is None or beside is None:
        return beside or load_tokenizer(str(named))
    if load_tokenizer(named).fingerprint != beside.fingerprint:
        raise DataError(f"{source}: beside the ids lies their tokenizer, {beside.name!r}, which is not --tokenizer {named}. Leave that out")
    return beside


def import_bins(files: dict[str, Path], folder: Path, tokenizer: Tokenizer, val_fraction: float) -> tuple[str, dict[str, dict[str, int]]]:
    """Write the ids of `files` as shards into `folder`; without a val.bin the end of train.bin is set aside.

    Gives the split ("given" or "contiguous") and what either side holds.
    Raises: DataError for a file that is empty, cut off in the middle of an id, or holds ids outside the vocabulary.
    """
    arrays = {side: _mapped(file) for side, file in files.items()}
    if "val" not in arrays:
        border = round(len(arrays["train"]) * (1 - val_fraction))
        arrays = {"train": arrays["train"][:border], "val": arrays["train"][border:]}
    written = {}
    for side, ids in arrays.items():
        with ShardWriter(folder, side, tokenizer.vocab_size, tokenizer.fingerprint) as writer:
            counts = {"tokens": len(ids), "documents": 0, "bytes": 0, "characters": 0}
            for part in _parts(ids, tokenizer.end_of_text_id):
                if part.max() >= tokenizer.vocab_size:
                    raise DataError(
                        f"{files.get(side, files['train'])}: holds the id {part.max()}, but tokenizer {tokenizer.name!r} has "
                        f"{tokenizer.vocab_size:,} entries. Name the tokenizer that made the file with --tokenizer"
                    )
                writer.write(part)
                for document in np.split(part, np.flatnonzero(part == tokenizer.end_of_text_id)):
                    text = tokenizer.decode(document[document != tokenizer.end_of_text_id])
                    counts["documents"] += bool(text)
                    counts["bytes"] += len(text.encode())
                    counts["characters"] += len(text)
        written[side] = counts
    return ("given" if "val" in files else "contiguous"), written


def export_bins(folder: Path, sides: dict[str, TokenArray], tokenizer: Tokenizer) -> None:
    """Write train.bin, val.bin (unless it would be empty) and the tokenizer's files into `folder`, whole or not at all."""
    refuse_large_vocabulary(tokenizer)
    with atomic_folder(folder) as temporary:
        for name, tokens in ((TRAIN, sides["train"]), (VAL, sides["val"])):
            if not len(tokens):  # an empty file would be taken for a damaged one
                continue
            with open(temporary / name, "wb") as file:
                for start in range(0, len(tokens), _AT_ONCE):
                    file.write(tokens.read(start, min(_AT_ONCE, len(tokens) - start)).astype("<u2").tobytes())
        tokenizer.save(temporary)


def refuse_large_vocabulary(tokenizer: Tokenizer) -> None:
    """Raises: DataError where ids do not fit into 16 bits."""
    if tokenizer.vocab_size > LARGEST_VOCAB:
        raise DataError(
            f"tokenizer {tokenizer.name!r} has {tokenizer.vocab_size:,} entries, but a .bin file holds ids of 16 bits, so at most "
            f"{LARGEST_VOCAB:,}. Leave out --format bin: shards take 32 bits where they are needed"
        )


def _mapped(path: Path) -> NDArray[np.generic]:
    size = path.stat().st_size
    if not size or size % 2:
        raise DataError(f"{path}: {size:,} bytes, but a .bin file holds ids of 2 bytes, one or more. Is it whole?")
    return np.memmap(path, dtype="<u2", mode="r")


def _parts(ids: NDArray[Any], end_of_text: int | None) -> Iterator[NDArray[Any]]:
    """Stretches of about a million ids that end where a document does, if one does."""
    start = 0
    while start < len(ids):
        part = np.asarray(ids[start : start + _AT_ONCE])
        if start + len(part) < len(ids) and end_of_text is not None:
            borders = np.flatnonzero(part == end_of_text)
            part = part[: borders[-1]] if len(borders) and borders[-1] else part
        yield part
        start += len(part)
