"""Unfinished work on a large source: its journal, and whether what that counts still lies there.

Shards, digests and marks only grow, so a kill leaves at least what the journal counts. A piece that holds less, or a journal that
does not match its own hash, was changed by somebody else, and going on would make a corpus that looks whole and is none.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpt_kit.config import CorpusConfig
from gpt_kit.data import shards
from gpt_kit.data.corpus import absolute_source, corpus_settings
from gpt_kit.data.encoding import SIDES
from gpt_kit.data.intake import DIGEST_BYTES
from gpt_kit.data.shards import HEADER, MAGIC, VERSION, bytes_per_id, shard_name
from gpt_kit.data.sources import Source
from gpt_kit.data.writing import MARK_BYTES, Written, bytes_in, digest_file, mark_file
from gpt_kit.errors import DataError, GPTKitError
from gpt_kit.files import PROGRESS, incomplete_folder, lock_folder, read_json, write_json
from gpt_kit.tokenizers import Tokenizer, load_tokenizer

_JOURNAL = "journal.json"
_BEGUN = "journal-was-begun"
_HASH = "sha256 of the rest"
Entry = dict[str, Any]
"""What the journal says."""


def was_begun(folder: Path) -> bool:
    """Whether there is work to take up for `folder`."""
    notes = incomplete_folder(folder) / PROGRESS
    return (notes / _JOURNAL).is_file() or (notes / _BEGUN).is_file()


def kept_bytes(folder: Path) -> int:
    """Bytes of text that whoever takes up the work for `folder` need not read again."""
    try:
        written: Written | None = read_json(incomplete_folder(folder) / PROGRESS / _JOURNAL)["written"]
    except (DataError, KeyError, TypeError):
        return 0
    return bytes_in(written)


def refuse_begun(folder: Path, text: Source) -> None:
    """Raises: DataError where work that can be taken up would make way for `text`."""
    if was_begun(folder):
        raise DataError(
            f"{incomplete_folder(folder)}: holds a preparation that was begun, and {text.title} cannot go on with it. "
            "Finish it with what it was begun with, or delete that folder to begin anew"
        )


def drop_unbegun(folder: Path) -> None:
    """Remove what was killed before there was anything to take up. Raises: FolderInUseError where somebody is at it."""
    place = incomplete_folder(folder)
    if place.exists():
        with lock_folder(place):
            if not was_begun(folder):
                shutil.rmtree(place)


def identity(text: Source, config: CorpusConfig) -> Entry:
    """What must be the same for work to be taken up."""
    files = [(str(file.absolute()), file.stat().st_size, file.stat().st_mtime_ns) for file in text.files]
    content = hashlib.sha256(json.dumps(files).encode()).hexdigest()
    return {"source": absolute_source(text.name), **corpus_settings(config), "content of the source": content[:12]}


def write_journal(place: Path, entry: Entry) -> None:
    """From here on, the work in `place` is taken up behind `entry`."""
    write_json(place / PROGRESS / _JOURNAL, {**entry, _HASH: _hash(entry)})
    (place / PROGRESS / _BEGUN).touch()  # without a journal, work was not begun or has lost it: this tells which


def read_journal(place: Path, text: Source, config: CorpusConfig) -> Entry:
    """What the work in `place` goes on behind. Raises: DataError where that was begun otherwise, or changed meanwhile."""
    try:
        entry: Entry = read_json(place / PROGRESS / _JOURNAL)
        if not isinstance(entry, dict) or entry.pop(_HASH, None) != _hash(entry):
            raise DataError(f"{place / PROGRESS / _JOURNAL}: is not what was written")
    except DataError as error:
        raise _lost(str(error), place) from None
    had, wanted = entry["identity"], identity(text, config)
    if had["on_damaged"] == "error":  # no damage was met so far, so nothing would have been done otherwise
        had["on_damaged"] = wanted["on_damaged"]
    changes = [f"{name} is {wanted[name]!r}, was {had.get(name)!r}" for name in wanted if had.get(name) != wanted[name]]
    if changes:
        raise DataError(
            f"{place}: holds a preparation that was begun otherwise ({'; '.join(changes)}). "
            "Finish it with what it was begun with, or delete that folder to begin anew"
        )
    return {**entry, "identity": wanted}


def begun_tokenizer(place: Path, entry: Entry) -> Tokenizer:
    """The tokenizer of the work in `place`. Raises: DataError that names a piece which does not hold what `entry` counts."""
    try:
        tokenizer = load_tokenizer(place)
    except GPTKitError as error:
        raise _lost(str(error), place) from None
    written = entry["written"]
    digests = {side: written[side]["digests"] for side in SIDES}
    if entry["phase"] == "copied":  # those of val stand behind those of train, where they were written
        digests = {"train": sum(digests.values()), "val": 0}
    sizes = {digest_file(place / PROGRESS, side): count * DIGEST_BYTES for side, count in digests.items()}
    sizes[mark_file(place / PROGRESS)] = entry["num_marks"] * MARK_BYTES
    for file, least in sizes.items():
        _check_size(file, least, place)
    for side in SIDES:
        is_closed = entry["phase"] == "written" or (entry["phase"], side) == ("copied", "val")
        for number, count in enumerate(_ids_per_shard(written[side]["tokens"])):
            _check_shard(place / shard_name(side, number), count, tokenizer, is_closed=is_closed or count == shards.TOKENS_PER_SHARD)
    return tokenizer


def _check_shard(file: Path, count: int, tokenizer: Tokenizer, *, is_closed: bool) -> None:
    item_bytes = bytes_per_id(tokenizer.vocab_size)
    _check_size(file, HEADER.size + count * item_bytes, file.parent)
    with open(file, "rb") as opened:
        magic, version, found_bytes, found_count, fingerprint = HEADER.unpack(opened.read(HEADER.size))
    if (magic, version, found_bytes, fingerprint.hex()) != (MAGIC, VERSION, item_bytes, tokenizer.fingerprint):
        raise _lost(f"{file}: is no shard of the tokenizer beside it", file.parent)
    if is_closed and found_count != count:
        raise _lost(f"{file}: its header counts {found_count:,} ids, not {count:,} as the journal does", file.parent)


def _check_size(file: Path, least: int, place: Path) -> None:
    if not file.is_file():
        raise _lost(f"{file}: is missing", place)
    if (found := file.stat().st_size) < least:
        raise _lost(f"{file}: holds {found:,} bytes, but the journal counts {least:,}", place)


def _ids_per_shard(tokens: int) -> Iterator[int]:
    full, rest = divmod(tokens, shards.TOKENS_PER_SHARD)
    yield from [shards.TOKENS_PER_SHARD] * full
    if rest:
        yield rest


def _lost(what: str, place: Path) -> DataError:
    return DataError(f"{what}. So the work begun here was changed meanwhile and cannot be taken up. To begin anew, delete {place}")


def _hash(entry: Entry) -> str:
    return hashlib.sha256(json.dumps(entry, sort_keys=True).encode()).hexdigest()
