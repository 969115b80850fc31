"""Documents, and how a long one is cut: a text of any length passes through memory in pieces of about a megabyte.

A piece ends behind a line break, if it has one, and best behind one that stands between two printable characters: there GPT-2's
pattern cuts anyway, so that the ids are the same as those of the whole. Where a document is cut depends on its content alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

SEPARATOR = b"<|endoftext|>"
"""Stands between the documents of a text file, alone on a line or not. It never reaches a document."""
PIECE_BYTES = 1_000_000
"""Bytes (of text files) or characters (of records) up to which a document stays whole."""
_BREAKS_TRIED = 1000
_LONGEST_UTF8_TAIL = 3


class OpenLine(NamedTuple):
    """What has to be known of a line that goes on in the next piece."""

    num_bytes: int = 0
    """Of it, so far."""
    is_left_out: bool = False
    """It was found damaged, so what follows of it is left out too."""
    run: str = ""
    """The character it ends in, `run_length` times. (A run of line breaks crosses lines.)"""
    run_length: int = 0


class Position(NamedTuple):
    """A place between two pieces of one file, from which reading can go on."""

    offset: int = 0
    """Bytes (.txt, .md, .jsonl, unpacked) or records (.json, .parquet, hub) read so far."""
    line: int = 1
    """The line there, from 1, where the file has lines."""
    in_document: bool = False
    """The document before goes on here."""
    after_line_break: bool = True
    """The last byte before the separator was a line break."""
    open_line: OpenLine = OpenLine()
    """Of a text file."""


class Document(NamedTuple):
    """One text of a corpus, or a piece of one."""

    text: str
    """The text. Content, never a command: whoever encodes it does so without special tokens."""
    origin: str
    """Where it stands, for people: "a.txt", "books/a.jsonl:17" (line, from 1), "a.json[3]", "a.parquet[3]" (record, from 0)."""
    is_first: bool = True
    """A document begins here; else it is a further piece of the one before."""
    is_last: bool = True
    """The document ends here."""
    end: Position | None = None
    """The place behind it; None inside a record, where reading cannot begin."""


class RawPiece(NamedTuple):
    """A stretch of a text file, still as bytes."""

    data: bytes
    offset: int
    line: int
    is_first: bool
    is_last: bool
    after_line_break: bool
    is_whole_stream: bool
    end: Position


def raw_pieces(stream: BinaryIO, chunk_bytes: int, start: Position) -> Iterator[RawPiece]:
    """The stretches between the separators of `stream`, which stands at `start`; those over PIECE_BYTES in pieces."""
    buffer, at, searched = b"", 0, 0
    offset, line, in_document, after_break = start.offset, start.line, start.in_document, start.after_line_break
    at_end = False
    while True:
        end = buffer.find(SEPARATOR, searched, at + PIECE_BYTES + len(SEPARATOR))
        is_last, skipped = end >= 0, len(SEPARATOR)
        if end < 0 and not at_end and len(buffer) - at < PIECE_BYTES + len(SEPARATOR):
            searched = max(0, len(buffer) - at - len(SEPARATOR) + 1)  # a separator may lie across two chunks
            chunk = stream.read(chunk_bytes)
            buffer, at, at_end = buffer[at:] + chunk, 0, not chunk
            continue
        if end < 0:
            is_last, skipped = len(buffer) - at <= PIECE_BYTES, 0
            end = len(buffer) if is_last else at + _last_break(buffer[at : at + PIECE_BYTES + 1], PIECE_BYTES)
        data = buffer[at:end]
        had_break, begun_at, begun_line = after_break, offset, line
        offset, line = offset + len(data) + skipped, line + data.count(b"\n")
        if data:
            after_break = data.endswith(b"\n")
        is_whole = at_end and begun_at == 0 and skipped == 0 and is_last
        place = Position(offset, line, not is_last, after_break)
        yield RawPiece(data, begun_at, begun_line, not in_document, is_last, had_break, is_whole, place)
        if at_end and not skipped and is_last:
            return
        at = searched = end + skipped
        in_document = not is_last


def _last_break(data: bytes, limit: int) -> int:
    """Where to cut `data` at or before `limit`: behind a line break, or else between two characters."""
    fallback, end = 0, limit
    for _ in range(_BREAKS_TRIED):
        found = data.rfind(b"\n", 0, end)
        if found <= 0:
            break
        fallback = fallback or found + 1
        before = data[found - 1 - (data[found - 1] == 0x0D)]
        if 0x20 < before < 0x7F and 0x20 < data[found + 1] < 0x7F:
            return found + 1
        end = found
    if fallback:
        return fallback
    for cut in range(limit, limit - _LONGEST_UTF8_TAIL - 1, -1):
        if data[cut] & 0xC0 != 0x80:
            return cut - (data[cut - 1] == 0x0D)
    return limit


def cut_text(text: str, origin: str, end: Position) -> Iterator[Document]:
    """A record's text as one document, in pieces where it is long."""
    start = 0
    while len(text) - start > PIECE_BYTES:
        limit = start + PIECE_BYTES
        cut = _last_break_of_text(text, start, limit)
        yield Document(text[start:cut], origin, is_first=start == 0, is_last=False)
        start = cut
    yield Document(text[start:], origin, is_first=start == 0, end=end)


def _last_break_of_text(text: str, start: int, limit: int) -> int:
    fallback, end = 0, limit
    for _ in range(_BREAKS_TRIED):
        found = text.rfind("\n", start + 1, end)
        if found < 0:
            break
        fallback = fallback or found + 1
        if "!" <= text[found - 1] <= "~" and "!" <= text[found + 1] <= "~":
            return found + 1
        end = found
    return fallback or limit
