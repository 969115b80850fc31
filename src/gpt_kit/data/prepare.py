"""Text of any size -> a prepared corpus, in one reading.

    source -> intake -> sides -> units -> ids -> shards
              (intake.py: damage, counts) (splitting.py) (encoding.py: threads) (writing.py)

A source that ends within SMALL_BYTES is held in memory, so that its split can be exact; it is written at once or not at all.
A larger one streams through: its documents are set aside by their hash alone, or its end is (tail.py). After every JOURNAL_BYTES
a journal names the place in the source and what is written by then. Started again after a kill, the work goes on behind it,
and the result is the same to the last byte. Memory stays constant in both.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from gpt_kit.config import CorpusConfig
from gpt_kit.data import tail
from gpt_kit.data.bins import bin_files, import_bins
from gpt_kit.data.corpus import FORMAT, INFO, Corpus, Progress, absolute_source, corpus_settings, open_corpus
from gpt_kit.data.duplicates import Digests, count_duplicates
from gpt_kit.data.encoding import SIDES, Unit, encode_units, gather
from gpt_kit.data.intake import NOTHING_LEFT_OUT, Intake, Piece
from gpt_kit.data.leaks import WINDOW, find_leaks
from gpt_kit.data.shards import TokenArray, open_shard
from gpt_kit.data.sources import Source
from gpt_kit.data.splitting import DocumentSplit, contiguous_sides, exact_threshold, is_by_document, share_threshold
from gpt_kit.data.writing import CorpusWriter, Written, read_digests
from gpt_kit.errors import ConfigError, DataError
from gpt_kit.files import PROGRESS, atomic_folder, incomplete_folder, read_json, resumable_folder, write_json
from gpt_kit.tokenizers import Tokenizer, load_tokenizer, train_tokenizer

SMALL_BYTES = 64_000_000
JOURNAL_BYTES = 16_000_000
JOURNAL = "journal.json"
Note = Callable[[str], None]


def prepare_corpus(
    source: str, folder: Path, config: CorpusConfig, progress: Progress = lambda *_: None, note: Note = lambda _: None
) -> Corpus:
    """Write `source` (see sources.py) as a corpus into `folder`, and open it. `note` is told what somebody should read.

    Where an earlier call for the same source and settings was killed, its work is taken up.
    Raises: DataError for a source that is missing, empty or damaged, or where other work was begun; TokenizerError for a tokenizer
    that does not fit.
    """
    if files := bin_files(source):
        _prepare_bins(source, files, folder, config)
        return open_corpus(folder, verify=False)
    text = Source(source, config.text_key, config.streaming)
    begun = incomplete_folder(folder)
    if (begun / PROGRESS / JOURNAL).is_file() and not text.is_stream:
        _prepare_large(text, folder, config, None, progress, note)
        return open_corpus(folder, verify=False)
    intake = Intake(text, config, note)
    pieces = iter(intake)
    head, is_whole = _head(pieces, progress)
    if is_whole:
        _prepare_small(text, folder, config, head, intake, progress)
    else:
        _prepare_large(text, folder, config, (head, pieces, intake), progress, note)
    return open_corpus(folder, verify=False)


def _prepare_bins(source: str, files: dict[str, Path], folder: Path, config: CorpusConfig) -> None:
    if config.tokenizer in ("bpe", "char"):
        raise DataError(
            f"{source}: holds ids, and tokenizer {config.tokenizer!r} is learned from text. Name the tokenizer that made the ids: "
            "gpt2, byte, or a folder that holds it"
        )
    tokenizer = load_tokenizer(config.tokenizer)
    with atomic_folder(folder) as temporary:
        split, written = import_bins(files, temporary, tokenizer, config.val_fraction)
        tokenizer.save(temporary)
        nothing = np.zeros(0, np.uint64)
        documents = sum(own["documents"] for own in written.values())
        _finish(temporary, source, config, tokenizer, split, written, (nothing, nothing), {**NOTHING_LEFT_OUT, "documents": documents})


def _head(pieces: Iterator[Piece], progress: Progress) -> tuple[list[Piece], bool]:
    """The pieces up to SMALL_BYTES, and whether these are all."""
    head, size = [], 0
    for piece in pieces:
        head.append(piece)
        size += piece.num_bytes
        if len(head) % 1000 == 0:
            progress("reading", size, 0)
        if size > SMALL_BYTES:
            return head, False
    return head, True


def _prepare_small(text: Source, folder: Path, config: CorpusConfig, pieces: list[Piece], intake: Intake, progress: Progress) -> None:
    split = "document" if is_by_document(pieces, config) else "contiguous"
    if split == "document":
        chooser = DocumentSplit(exact_threshold(pieces, config.val_fraction))
        sided = [(chooser.side_of(piece), piece) for piece in pieces]
    else:
        sided = list(contiguous_sides(pieces, config.val_fraction))
    tokenizer = _make_tokenizer(
        config, lambda: (piece.text for _, piece in sided), (p.text for side, p in sided if side == "train"), progress
    )
    size = sum(piece.num_bytes for _, piece in sided)
    with atomic_folder(folder) as temporary:
        notes = temporary / PROGRESS
        notes.mkdir()
        with CorpusWriter(temporary, notes, tokenizer) as writer:
            for _ in _write(writer, encode_units(tokenizer, gather(sided), config.threads), size, progress):
                pass
        digests = read_digests(notes, "train"), read_digests(notes, "val")
        tokenizer.save(temporary)
        _finish(temporary, text.name, config, tokenizer, split, writer.written, digests, intake.report())
        shutil.rmtree(notes)


def _prepare_large(
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
            note(f"{folder}: going on where an earlier preparation stopped, {_bytes_in(entry['written']) / 1e6:,.0f} MB into the text")
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
        _finish(work, text.name, config, tokenizer, entry["split"], entry["written"], digests, entry["report"])


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
        for unit in _write(writer, encode_units(tokenizer, gather(sided(), state), config.threads), num_bytes, progress):
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


def _write(writer: CorpusWriter, encoded: Iterable[tuple[Unit, Any]], all_bytes: int, progress: Progress) -> Iterator[Unit]:
    """Write units, each yielded once it is written."""
    for unit, ids in encoded:
        writer.write(unit, ids)
        progress("encoding", _bytes_in(writer.written), all_bytes)
        yield unit


def _finish(
    folder: Path,
    source: str,
    config: CorpusConfig,
    tokenizer: Tokenizer,
    split: str,
    written: Written,
    digests: tuple[Digests, Digests],
    report: dict[str, Any],
) -> None:
    """Write corpus.json."""
    duplicates, seen = count_duplicates(*digests)
    shards = {side: sorted(path.name for path in folder.glob(f"{side}-*.tokens")) for side in SIDES}
    sides = {side: TokenArray([open_shard(folder / name, tokenizer.fingerprint) for name in shards[side]]) for side in SIDES}
    leaks = find_leaks(sides["train"], sides["val"], tokenizer.end_of_text_id)
    example: dict[str, Any] | None = leaks.example and {
        **leaks.example,
        "text": tokenizer.decode(sides["val"].read(leaks.example["val"], WINDOW)),
    }
    info: dict[str, Any] = {
        "format": FORMAT,
        "source": absolute_source(source),
        "settings": corpus_settings(config),
        "tokenizer": tokenizer.name,
        "tokenizer_fingerprint": tokenizer.fingerprint,
        "vocab_size": tokenizer.vocab_size,
        "split": split,
        "read": report,
        "duplicates": duplicates,
        "val_documents_seen_in_training": seen,
        "near_duplicates": {**dataclasses.asdict(leaks), "example": example},
    }
    for side, own in written.items():
        info[side] = {**{name: own[name] for name in ("tokens", "documents", "bytes", "characters")}, "shards": shards[side]}
    write_json(folder / INFO, info)


def _make_tokenizer(
    config: CorpusConfig, everything: Callable[[], Iterable[str]], training: Iterable[str], progress: Progress
) -> Tokenizer:
    if config.tokenizer == "char":  # every character must have an id, also those that only validation text uses
        progress("collecting characters", 0, 0)
        return train_tokenizer("char", everything())
    if config.tokenizer == "bpe":
        progress("training the tokenizer", 0, 0)
        return train_tokenizer("bpe", training, vocab_size=config.vocab_size)
    return load_tokenizer(config.tokenizer)


def _tokenizer_of_large(text: Source, config: CorpusConfig, split: str, head: list[Piece], progress: Progress) -> Tokenizer:
    """Characters are collected in a reading of their own; bpe learns from the training text in `head`."""
    if config.tokenizer == "char" and text.is_stream:
        raise ConfigError(
            f"{text.name}: tokenizer 'char' has to read a text of more than {SMALL_BYTES / 1e6:.0f} MB twice, and this is a stream. "
            "Save it to a file and give that, or choose another tokenizer"
        )

    def everything() -> Iterator[str]:
        yield from (piece.text for piece in Intake(text, config, lambda _: None))

    chooser = DocumentSplit(share_threshold(config.val_fraction if split == "document" else 0.0))
    return _make_tokenizer(config, everything, (piece.text for piece in head if chooser.side_of(piece) == "train"), progress)


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


def _bytes_in(written: Written | None) -> int:
    return sum(own["bytes"] for own in written.values()) if written else 0
