"""A source too large to be held: it streams through, and a kill at any moment costs no more than the last JOURNAL_BYTES.

The work lies in a folder beside the target, under a lock. After every JOURNAL_BYTES of text the shards are flushed, and then the
journal names the place in the source, the counts and how much of each file is written. Started again, what lies behind that is
cut off and written anew, to the same bytes: the units of text follow from the place where one begins.

Phases: reading -> written (all is encoded) -> copied (of a contiguous source: its end stands in val, too).
"""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from gpt_kit.config import CorpusConfig
from gpt_kit.data import tail
from gpt_kit.data.corpus import Progress, corpus_settings, refuse_foreign
from gpt_kit.data.duplicates import Digests
from gpt_kit.data.encoding import encode_units, gather
from gpt_kit.data.finish import finish, make_tokenizer, write_units
from gpt_kit.data.intake import Intake, Piece
from gpt_kit.data.sources import Source
from gpt_kit.data.splitting import DocumentSplit, is_by_document, share_threshold
from gpt_kit.data.unfinished import Entry, begun_tokenizer, identity, read_journal, refuse_begun, write_journal
from gpt_kit.data.writing import CorpusWriter, bytes_in, read_digests
from gpt_kit.errors import ConfigError
from gpt_kit.files import PROGRESS, resumable_folder
from gpt_kit.tokenizers import Tokenizer

JOURNAL_BYTES = 16_000_000
Note = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class _Work:
    """What stays as it is while one source is prepared."""

    text: Source
    config: CorpusConfig
    folder: Path
    tokenizer: Tokenizer
    progress: Progress
    tokenizer_is_saved: Callable[[], None] = lambda: None
    """Returns as soon as that is so."""

    @property
    def notes(self) -> Path:
        """Where digests, marks and the journal lie."""
        return self.folder / PROGRESS

    def write_journal(self, entry: Entry) -> None:
        """From here on, work is taken up behind `entry`; of a stream nobody knows whether it will be the same again."""
        if self.text.is_stream:
            return
        self.tokenizer_is_saved()
        write_journal(self.folder, entry)


def begin_large(
    text: Source,
    folder: Path,
    config: CorpusConfig,
    head: deque[Piece],
    intake: Intake,
    rest: Iterator[Piece],
    progress: Progress,
    note: Note,
) -> Tokenizer:
    """Prepare a source that begins with `head` and goes on with `rest`, both out of `intake`. Gives its tokenizer."""
    with resumable_folder(folder, refuse_foreign) as place:
        refuse_begun(folder, text)  # meanwhile, by somebody else
        _empty(place)
        split = "document" if is_by_document(head, config) else "contiguous"
        share = share_threshold(config.val_fraction if split == "document" else 0.0)
        entry = {"identity": identity(text, config), "split": split, "threshold": share, "side": "train"}
        entry |= {"phase": "reading", "written": None, "num_marks": 0}
        tokenizer, learned_from = _tokenizer_of(text, config, DocumentSplit(share), head, progress)
        with ThreadPoolExecutor(1) as aside:  # spelling out a vocabulary takes half a second, and encoding need not wait for it
            saving = aside.submit(tokenizer.save, place)
            work = _Work(text, config, place, tokenizer, progress, saving.result)
            entry = _encode(work, {**entry, **learned_from}, head, intake, rest)
        _end(work, entry, note)
    return tokenizer


def go_on_with_large(text: Source, folder: Path, config: CorpusConfig, progress: Progress, note: Note) -> Tokenizer:
    """Take up what the journal tells of. Raises: DataError where that was begun otherwise, or changed meanwhile."""
    with resumable_folder(folder, refuse_foreign) as place:
        entry = read_journal(place, text, config)
        tokenizer = begun_tokenizer(place, entry)
        note(f"{folder}: going on where an earlier preparation stopped, {bytes_in(entry['written']) / 1e6:,.0f} MB into the text")
        progress("encoding", bytes_in(entry["written"]), 0)
        work = _Work(text, config, place, tokenizer, progress)
        if entry["phase"] == "reading":
            intake = Intake(text, config, note, entry["intake"])
            entry = _encode(work, entry, deque(), intake, iter(intake))
        _end(work, entry, note)
    return work.tokenizer


def _encode(work: _Work, entry: Entry, head: deque[Piece], intake: Intake, rest: Iterator[Piece]) -> Entry:
    """Write everything that is left of the source. Gives the journal's entry about it."""
    chooser = DocumentSplit(entry["threshold"], entry["side"])

    def sided() -> Iterator[tuple[str, Piece]]:
        while head:
            piece = head.popleft()
            yield chooser.side_of(piece), piece
        for piece in rest:
            yield chooser.side_of(piece), piece

    def state() -> Entry | None:
        place = None if head else intake.state()
        return place and {"intake": place, "side": chooser.side}

    since = 0
    with CorpusWriter(work.folder, work.notes, work.tokenizer, entry["written"], entry["num_marks"]) as writer:
        encoded = encode_units(work.tokenizer, gather(sided(), state), work.config.threads)
        for unit in write_units(writer, encoded, intake.expected_bytes, work.progress):
            since += unit.num_bytes
            if unit.state and since >= JOURNAL_BYTES:
                writer.flush()
                work.write_journal({**entry, **unit.state, **writer.state()})
                since = 0
        writer.flush()
        entry = {**entry, **writer.state(), "report": intake.report(), "phase": "written"}
    work.write_journal(entry)
    return entry


def _end(work: _Work, entry: Entry, note: Note) -> None:
    digests = _settle_tail(work, entry)
    finish(
        work.folder,
        work.text.name,
        corpus_settings(work.config),
        work.tokenizer,
        entry["split"],
        entry["written"],
        digests,
        entry["report"],
        work.progress,
        entry["learned_from"],
    )
    if work.config.val_fraction and not entry["written"]["val"]["tokens"]:
        note("no document was set aside for validation: there are too few. Set the end of the text aside: --split contiguous")


def _settle_tail(work: _Work, entry: Entry) -> tuple[Digests, Digests]:
    """Move the end of a contiguous source to val. Gives the digests of either side; `entry` then tells what each holds."""
    train = read_digests(work.notes, "train")
    if entry["split"] == "document":
        return train, read_digests(work.notes, "val")
    if entry["phase"] == "written":
        border = tail.find_border(work.notes, work.config.val_fraction)
        entry |= {"written": tail.copy_tail(work.folder, work.tokenizer, border, entry["written"]["train"]), "phase": "copied"}
        work.write_journal(entry)
    tail.cut_off_tail(work.folder, work.tokenizer, entry["written"]["train"]["tokens"])
    return tail.digests_of(train, entry["written"])


def _tokenizer_of(
    text: Source, config: CorpusConfig, chooser: DocumentSplit, head: Iterable[Piece], progress: Progress
) -> tuple[Tokenizer, Entry]:
    """Characters are collected in a reading of their own; bpe learns from the training text in `head`, whose bytes are told."""
    if config.tokenizer == "char" and text.is_stream:
        raise ConfigError(
            f"{text.name}: tokenizer 'char' has to read so long a text twice, and this is a stream. "
            "Save it to a file and give that, or choose another tokenizer"
        )
    training = [piece for piece in head if chooser.side_of(piece) == "train"]
    everything = (piece.text for piece in Intake(text, config, lambda _: None))
    tokenizer = make_tokenizer(config, everything, (piece.text for piece in training), progress)
    return tokenizer, {"learned_from": sum(piece.num_bytes for piece in training) if config.tokenizer == "bpe" else 0}


def _empty(folder: Path) -> None:
    """Remove what is left of work that cannot be taken up."""
    for entry in folder.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        elif entry.name != ".lock":
            entry.unlink()
    (folder / PROGRESS).mkdir()
