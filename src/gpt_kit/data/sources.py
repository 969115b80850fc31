"""Where text comes from: one word names a source, and every source becomes a stream of documents.

A source is a file, a folder (all files of a known kind below it, hidden ones left out), a glob ("corpus/**/*.txt"), "-" for
standard input, `python-docs`, the corpus that comes with Python, or a dataset of the hub (see `hub`). A path that exists wins
over a name. Files are read in sorted order (see `listing`), so a source means the same documents in the same order on every machine.
What a file of each kind may look like stands in `readers`; .gz and .zst around any of them are unpacked on the way.
"""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import BinaryIO

from gpt_kit.data import python_docs
from gpt_kit.data.compressed import COMPRESSIONS
from gpt_kit.data.damage import Damage
from gpt_kit.data.hub import PRESETS, Streaming, read_hub
from gpt_kit.data.listing import STDIN, exists, files_named, hub_source, list_files
from gpt_kit.data.pieces import Document, Position
from gpt_kit.data.plain_text import Reading, read_text
from gpt_kit.data.readers import read_file
from gpt_kit.errors import DataError

__all__ = ["PRESETS", "STDIN", "Document", "Source", "hub_source", "list_files", "no_text", "read_documents"]

_taken_stdin: object = None
Found = Iterator[tuple[int, Document | Damage]]


class Source:
    """A source that was looked up: it exists, and its files are known; each is opened when it is reached."""

    def __init__(self, name: str, text_key: str = "text", streaming: Streaming = "auto") -> None:
        """Raises: DataError for an unknown source."""
        self.name, self.text_key, self.streaming = name, text_key, streaming
        self.title = _title(name)
        self.hub = hub_source(name)
        self.is_docs = name == python_docs.NAME and not exists(name)
        self.files, self.skipped = files_named(name)  # in lines for people: see Listing
        self.is_stream = name == STDIN or any(file.is_fifo() for file in self.files)
        """It can be read only once."""

    def read(self, *, replace: bool = False, normalised: Counter[str] | None = None, file: int = 0, start: Position | None = None) -> Found:
        """(number of the file, document or damage), from a place in a file on. Damage is repaired first with `replace`."""
        reading = Reading(self.text_key, replace, Counter() if normalised is None else normalised)
        if self.name == STDIN:
            yield from ((0, found) for found in read_text(_take_stdin(), "stdin", reading))
        elif self.hub:
            yield from ((0, found) for found in read_hub(self.name, self.hub, reading, self.streaming, start.offset if start else 0))
        elif self.is_docs:
            yield from ((0, document) for document in python_docs.read_python_docs())
        for number in range(file, len(self.files)):
            for found in read_file(self.files[number], reading, start if number == file else None):
                yield number, found

    @cached_property
    def _ends(self) -> list[int]:
        """Bytes of the files up to the end of each."""
        return list(itertools.accumulate(file.stat().st_size for file in self.files))

    def share_read(self, file: int, position: Position) -> float:
        """How much of all files lies before a place in one, by their bytes on the disk; 0 where that is not known.

        Of a file whose places are not its own bytes (packed, or of records) nothing counts until it is read.
        """
        if self.is_stream or not self.files:
            return 0.0
        is_in_bytes = self.files[file].suffix.lower() not in (*COMPRESSIONS, ".json", ".parquet")
        before = self._ends[file - 1] if file else 0
        return (before + position.offset * is_in_bytes) / max(1, self._ends[-1])


def read_documents(source: str, *, text_key: str = "text", on_damaged: Callable[[DataError], None] | None = None) -> Iterator[Document]:
    """The documents of `source`, one at a time and whole, without those that are only white space.

    The source is looked up at once, its files are opened as they are reached. `text_key` names the key or column that holds
    the text of .jsonl, .json and .parquet records. A damaged line or record is raised, or handed to `on_damaged` if given,
    and reading goes on without it; a file that cannot be read as a whole is always raised.
    Raises: DataError for an unknown source, a damaged file (file:line where it has lines), or a source that holds no text.
    """
    return _whole_documents(Source(source, text_key), on_damaged)


def _whole_documents(source: Source, on_damaged: Callable[[DataError], None] | None) -> Iterator[Document]:
    is_empty = True
    pieces: list[str] = []
    for _, found in source.read():
        if isinstance(found, Damage):
            if on_damaged is None:
                raise found
            on_damaged(found)
            continue
        if found.is_first:
            origin, pieces = found.origin, []
        pieces.append(found.text)
        text = "".join(pieces) if found.is_last else ""
        if text and not text.isspace():
            is_empty = False
            yield Document(text, origin)
    if is_empty:
        raise no_text(source.name)


def no_text(source: str) -> DataError:
    """The complaint about a source without any."""
    return DataError(f"{_title(source)}: holds no text")


def _title(source: str) -> str:
    return "stdin" if source == STDIN else source


def _take_stdin() -> BinaryIO:
    """Standard input as bytes, once: what was read is gone, and a second reading would find an empty corpus."""
    global _taken_stdin
    stream = getattr(sys.stdin, "buffer", None)
    if stream is None:
        raise DataError("stdin: standard input is closed, so there is nothing to read")
    if sys.stdin is _taken_stdin:
        raise DataError("stdin: standard input was read already, and can be read only once. Save it to a file and give that")
    _taken_stdin = sys.stdin
    return stream  # type: ignore[no-any-return]
