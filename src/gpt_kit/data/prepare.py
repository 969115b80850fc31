"""Text of any size -> a prepared corpus, in one reading and constant memory.

    source -> intake -> sides -> units -> ids -> shards
              (intake.py: damage, counts) (splitting.py) (encoding.py: threads) (writing.py)

A source that ends within SMALL_BYTES is held in memory, so that its split can be exact; it is written at once or not at all.
A larger one streams through (large.py): its documents are set aside by their hash alone, or its end is (tail.py).
"""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from gpt_kit.config import CorpusConfig
from gpt_kit.data.bins import bin_files, has_tokenizer, import_bins, tokenizer_of_bins
from gpt_kit.data.corpus import Corpus, Progress, corpus_settings, open_corpus, refuse_foreign
from gpt_kit.data.encoding import encode_units, gather
from gpt_kit.data.finish import finish, make_tokenizer, write_units
from gpt_kit.data.intake import NOTHING_LEFT_OUT, Intake, Piece
from gpt_kit.data.join import common_settings, corpora_in, link_shards, opened, summed_reports
from gpt_kit.data.large import Note, begin_large, go_on_with_large
from gpt_kit.data.sources import Source
from gpt_kit.data.splitting import DocumentSplit, contiguous_sides, exact_threshold, is_by_document
from gpt_kit.data.unfinished import drop_unbegun, refuse_begun, was_begun
from gpt_kit.data.writing import CorpusWriter, read_digests
from gpt_kit.files import PROGRESS, atomic_folder
from gpt_kit.tokenizers import Tokenizer

SMALL_BYTES = 32_000_000
"""Of memory, about: a document counts more than its text (Piece.memory_bytes)."""


def prepare_corpus(
    source: str, folder: Path, config: CorpusConfig, progress: Progress = lambda *_: None, note: Note = lambda _: None
) -> Corpus:
    """Write `source` (see sources.py) as a corpus into `folder`, and open it. `note` is told what somebody should read.

    Where an earlier call for the same source and settings was killed, its work is taken up; not so that of a stream.
    A corpus that `folder` holds is replaced.
    Raises: DataError for a source that is missing, empty or damaged, where other work was begun, or where `folder` holds something
    else; TokenizerError for a tokenizer that does not fit.
    """
    refuse_foreign(folder)
    if files := bin_files(source):
        tokenizer = _prepare_bins(source, files, folder, config, progress)
        return open_corpus(folder, verify=False, tokenizer=tokenizer)
    if parts := corpora_in(source):
        tokenizer = _join(source, parts, folder, config, progress)
        return open_corpus(folder, verify=False, tokenizer=tokenizer)
    text = Source(source, config.text_key, config.streaming)
    for line in text.skipped:
        note(line)
    if text.is_stream:
        refuse_begun(folder, text)
    if was_begun(folder):
        tokenizer = go_on_with_large(text, folder, config, progress, note)
        return open_corpus(folder, verify=False, tokenizer=tokenizer)
    intake = Intake(text, config, note)
    rest = iter(intake)
    head, is_whole = _head(rest, progress)
    if is_whole:
        drop_unbegun(folder)
        tokenizer = _prepare_small(text, folder, config, head, intake, progress)
    else:
        tokenizer = begin_large(text, folder, config, head, intake, rest, progress, note)
    return open_corpus(folder, verify=False, tokenizer=tokenizer)


def _prepare_bins(source: str, files: dict[str, Path], folder: Path, config: CorpusConfig, progress: Progress) -> Tokenizer:
    is_default = config.tokenizer == CorpusConfig().tokenizer  # then the tokenizer beside the ids goes before it
    tokenizer = tokenizer_of_bins(source, files, None if is_default and has_tokenizer(files) else config.tokenizer)
    with atomic_folder(folder) as temporary:
        split, written = import_bins(files, temporary, tokenizer, config.val_fraction)
        tokenizer.save(temporary)
        documents = sum(own["documents"] for own in written.values())
        report = {**NOTHING_LEFT_OUT, "documents": documents}
        finish(temporary, source, corpus_settings(config), tokenizer, split, written, None, report, progress)
    return tokenizer


def _join(source: str, parts: list[Path], folder: Path, config: CorpusConfig, progress: Progress) -> Tokenizer:
    corpora = opened(parts)
    tokenizer = corpora[0].tokenizer
    settings = common_settings(source, corpora, config)
    with atomic_folder(folder) as temporary:
        written = link_shards(corpora, temporary)
        tokenizer.save(temporary)
        split = corpora[0].info["split"] if len({corpus.info["split"] for corpus in corpora}) == 1 else "mixed"
        finish(temporary, source, settings, tokenizer, split, written, None, summed_reports(corpora), progress, joined=len(corpora))
    return tokenizer


def _head(pieces: Iterator[Piece], progress: Progress) -> tuple[deque[Piece], bool]:
    """The pieces up to SMALL_BYTES of memory, and whether these are all."""
    head, size, memory = deque[Piece](), 0, 0
    for piece in pieces:
        head.append(piece)
        size += piece.num_bytes
        memory += piece.memory_bytes
        if len(head) % 1000 == 0:
            progress("reading", size, 0)
        if memory > SMALL_BYTES:
            return head, False
    return head, True


def _prepare_small(text: Source, folder: Path, config: CorpusConfig, pieces: deque[Piece], intake: Intake, progress: Progress) -> Tokenizer:
    split = "document" if is_by_document(pieces, config) else "contiguous"
    if split == "document":
        chooser = DocumentSplit(exact_threshold(pieces, config.val_fraction))
        sided = [(chooser.side_of(piece), piece) for piece in pieces]
    else:
        sided = list(contiguous_sides(pieces, config.val_fraction))
    tokenizer = make_tokenizer(config, (piece.text for _, piece in sided), (p.text for side, p in sided if side == "train"), progress)
    size = sum(piece.num_bytes for _, piece in sided)
    with atomic_folder(folder) as temporary:
        notes = temporary / PROGRESS
        notes.mkdir()
        with CorpusWriter(temporary, notes, tokenizer) as writer:
            for _ in write_units(writer, encode_units(tokenizer, gather(sided), config.threads), lambda: size, progress):
                pass
        learned_from = writer.written["train"]["bytes"] if config.tokenizer == "bpe" else 0
        digests = read_digests(notes, "train"), read_digests(notes, "val")
        tokenizer.save(temporary)
        report, settings = intake.report(), corpus_settings(config)
        finish(temporary, text.name, settings, tokenizer, split, writer.written, digests, report, progress, learned_from)
        shutil.rmtree(notes)
    return tokenizer
