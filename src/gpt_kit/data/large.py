"""A source too large to be held: it streams through, and a kill at any moment costs no more than the last JOURNAL_BYTES.

The work lies in a folder beside the target, under a lock. After every JOURNAL_BYTES of text the shards are flushed, and then the
journal names the place in the source, the counts and how much of each file is written. Started again, what lies behind that is
cut off and written anew, to the same bytes: the units of text follow from the place where one begins.

Phases: reading -> written (all is encoded) -> copied (of a contiguous source: its end stands in val, too).
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from gpt_kit.config import CorpusConfig
from gpt_kit.data import tail
from gpt_kit.data.corpus import Progress, absolute_source, corpus_settings
from gpt_kit.data.duplicates import Digests
from gpt_kit.data.encoding import encode_units, gather
from gpt_kit.data.finish import bytes_in, finish, make_tokenizer, write_units
from gpt_kit.data.intake import Intake, Piece
from gpt_kit.data.sources import Source
from gpt_kit.data.splitting import DocumentSplit, is_by_document, share_threshold
from gpt_kit.data.writing import CorpusWriter, read_digests
from gpt_kit.errors import ConfigError, DataError
from gpt_kit.files import PROGRESS, incomplete_folder, read_json, resumable_folder, write_json
from gpt_kit.tokenizers import Tokenizer, load_tokenizer

JOURNAL_BYTES = 16_000_000
JOURNAL = "journal.json"
Note = Callable[[str], None]


def was_begun(folder: Path) -> bool:
    """Whether there is work to take up for `folder`."""
    return (incomplete_folder(folder) / PROGRESS / JOURNAL).is_file()


def prepare_large(
    text: Source,
    folder: Path,
    config: CorpusConfig,
    fresh: tuple[list[Piece], Iterator[Piece], Intake] | None,
    progress: Progress,
    note: Note,
) -> None:
    """`fresh`: the pieces that were read already, those that follow, and where they come from; None: go on by the journal."""
    with resumable_folder(folder) as work:
        journal = work / PROGRESS / JOURNAL
        if fresh is None:
            entry = _entry_to_go_on_with(journal, text, config)
            tokenizer, intake = load_tokenizer(work), Intake(text, config, note, entry["intake"])
            note(f"{folder}: going on where an earlier preparation stopped, {bytes_in(entry['written']) / 1e6:,.0f} MB into the text")
            head, rest = deque[Piece](), iter(intake)
        else:
            pieces, rest, intake = fresh
            _empty(work)
            entry = {"identity": _identity(text, config), "split": "document" if is_by_document(pieces, config) else "contiguous"}
            entry |= {"phase": "reading", "written": None, "num_marks": 0, "side": "train"}
            tokenizer = _tokenizer_of_large(text, config, entry["split"], pieces, progress)
            tokenizer.save(work)
            head = deque(pieces)
            del pieces
        if entry["phase"] == "reading":
            entry = _encode_large(work, journal, config, entry, tokenizer, head, rest, intake, text.num_bytes, progress)
        digests = _settle_tail(work, journal, config, entry, tokenizer)
        finish(work, text.name, config, tokenizer, entry["split"], entry["written"], digests, entry["report"])


def _encode_large(
    work: Path,
    journal: Path,
    config: CorpusConfig,
    entry: dict[str, Any],
    tokenizer: Tokenizer,
    head: deque[Piece],
    rest: Iterator[Piece],
    intake: Intake,
    num_bytes: int,
    progress: Progress,
) -> dict[str, Any]:
    """Write everything that is left of the source; the journal's last entry."""
    share = config.val_fraction if entry["split"] == "document" else 0.0
    chooser = DocumentSplit(share_threshold(share), entry["side"])

    def sided() -> Iterator[tuple[str, Piece]]:
        while head:
            piece = head.popleft()
            yield chooser.side_of(piece), piece
        for piece in rest:
            yield chooser.side_of(piece), piece

    def state() -> dict[str, Any] | None:
        place = None if head else intake.state()
        return place and {"intake": place, "side": chooser.side}

    since = 0
    with CorpusWriter(work, journal.parent, tokenizer, entry["written"], entry["num_marks"]) as writer:
        for unit in write_units(writer, encode_units(tokenizer, gather(sided(), state), config.threads), num_bytes, progress):
            since += unit.num_bytes
            if unit.state and since >= JOURNAL_BYTES:
                writer.flush()
                write_json(journal, {**entry, **unit.state, **writer.state()})
                since = 0
        writer.flush()
        entry = {**entry, **writer.state(), "intake": intake.state(), "report": intake.report(), "phase": "written"}
    write_json(journal, entry)
    return entry


def _settle_tail(work: Path, journal: Path, config: CorpusConfig, entry: dict[str, Any], tokenizer: Tokenizer) -> tuple[Digests, Digests]:
    """Move the end of a contiguous source to val. Gives the digests of either side; `entry` then tells what each holds."""
    train = read_digests(journal.parent, "train")
    if entry["split"] == "document":
        return train, read_digests(journal.parent, "val")
    if entry["phase"] == "written":
        border = tail.find_border(journal.parent, config.val_fraction)
        entry |= {"written": tail.copy_tail(work, tokenizer, border, entry["written"]["train"]), "phase": "copied"}
        write_json(journal, entry)
    tail.cut_off_tail(work, tokenizer, entry["written"]["train"]["tokens"])
    return tail.digests_of(train, entry["written"])


def _tokenizer_of_large(text: Source, config: CorpusConfig, split: str, head: list[Piece], progress: Progress) -> Tokenizer:
    """Characters are collected in a reading of their own; bpe learns from the training text in `head`."""
    if config.tokenizer == "char" and text.is_stream:
        raise ConfigError(
            f"{text.name}: tokenizer 'char' has to read so long a text twice, and this is a stream. "
            "Save it to a file and give that, or choose another tokenizer"
        )

    def everything() -> Iterator[str]:
        yield from (piece.text for piece in Intake(text, config, lambda _: None))

    chooser = DocumentSplit(share_threshold(config.val_fraction if split == "document" else 0.0))
    return make_tokenizer(config, everything, (piece.text for piece in head if chooser.side_of(piece) == "train"), progress)


def _identity(text: Source, config: CorpusConfig) -> dict[str, Any]:
    """What must be the same for work to be taken up."""
    files = [(str(file.absolute()), file.stat().st_size, file.stat().st_mtime_ns) for file in text.files]
    content = hashlib.sha256(json.dumps(files).encode()).hexdigest()
    return {"source": absolute_source(text.name), **corpus_settings(config), "content of the source": content[:12]}


def _entry_to_go_on_with(journal: Path, text: Source, config: CorpusConfig) -> dict[str, Any]:
    entry: dict[str, Any] = read_json(journal)
    had, wanted = entry["identity"], _identity(text, config)
    if had["on_damaged"] == "error":  # no damage was met so far, so nothing would have been done otherwise
        had["on_damaged"] = wanted["on_damaged"]
    changes = [f"{name} is {wanted[name]!r}, was {had.get(name)!r}" for name in wanted if had.get(name) != wanted[name]]
    if changes:
        raise DataError(
            f"{journal.parents[1]}: holds a preparation that was begun otherwise ({'; '.join(changes)}). "
            "Finish it with what it was begun with, or delete that folder to begin anew"
        )
    return entry


def _empty(folder: Path) -> None:
    """Remove what is left of work that cannot be taken up."""
    for entry in folder.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        elif entry.name != ".lock":
            entry.unlink()
    (folder / PROGRESS).mkdir()
