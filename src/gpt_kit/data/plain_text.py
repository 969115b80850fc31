"""Text files: documents between separators, in pieces, with damage as a matter of lines.

A line longer than a piece is read in several. What has to be known of it goes on with the place in the file (`OpenLine`), so that
damage is told once and does not end with the piece, and a later reading goes on as this one would have.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from gpt_kit.data import damage
from gpt_kit.data.damage import Damage, decoded_lines, long_line, without_long_runs
from gpt_kit.data.pieces import Document, OpenLine, Position, RawPiece, raw_pieces

CHUNK_BYTES = 1 << 20
BYTE_ORDER_MARK = "\ufeff"
Found = Iterator[Document | Damage]


@dataclass(frozen=True, slots=True)
class Reading:
    """How to read, and what was put right on the way."""

    text_key: str = "text"
    """The key or column that holds the text of records."""
    replace: bool = False
    """Repair damage where that can be done."""
    normalised: Counter[str] = field(default_factory=Counter)
    """What was changed without being damage: byte order marks dropped, line ends in the form of Windows made plain."""


def read_text(stream: BinaryIO, name: str, reading: Reading, start: Position | None = None) -> Found:
    r"""The UTF-8 texts between the separators of `stream`; without any separator, all of it is one document.

    A separator alone on its line takes its line break with it. A byte order mark is dropped, and "\r\n" becomes "\n". Damage is
    a matter of lines: the document goes on without them, or with them repaired. Of a line that is longer than a piece, what was
    read before the damage stays.
    """
    start = start or Position()
    line = OpenLine(*start.open_line)
    for raw in raw_pieces(stream, CHUNK_BYTES, start):
        is_whole = raw.is_first and raw.is_last and len(raw.data) <= damage.LONGEST_LINE
        text = damage.sound_text(raw.data) if is_whole else None
        if text is None:
            text, line = yield from _text_with_damage(raw, name, reading, OpenLine() if raw.is_first else line)
        if raw.offset == 0 and text.startswith(BYTE_ORDER_MARK):
            text = text[1:]
            reading.normalised["byte order mark"] += 1
        if "\r\n" in text:
            reading.normalised["CRLF line end"] += text.count("\r\n")
            text = text.replace("\r\n", "\n")
        number = raw.line
        if raw.is_first and raw.offset and raw.after_line_break and text.startswith("\n"):
            text, number = text[1:], number + 1
        origin = name if raw.is_whole_stream else f"{name}:{number}"
        end = raw.end if raw.is_last else raw.end._replace(open_line=line)
        yield Document(text, origin, is_first=raw.is_first, is_last=raw.is_last, end=end)


def _text_with_damage(raw: RawPiece, name: str, reading: Reading, line: OpenLine) -> Generator[Damage, None, tuple[str, OpenLine]]:
    """What is left of a piece that goes on with `line`, and the line that is open behind it."""
    data, offset, number = raw.data, raw.offset, raw.line
    first_break, last_break = data.find(b"\n"), data.rfind(b"\n")
    num_bytes = line.num_bytes + (len(data) if first_break < 0 else first_break)
    is_left_out = line.is_left_out
    if line.num_bytes <= damage.LONGEST_LINE < num_bytes and not is_left_out:
        yield long_line(name, number, repaired=reading.replace, in_document=True)
        is_left_out = not reading.replace
    if is_left_out:
        passed = len(data) if first_break < 0 else first_break + 1
        data, offset, number, line = data[passed:], offset + passed, number + (first_break >= 0), OpenLine()
    decoded = yield from decoded_lines(data, name, number, offset, replace=reading.replace)
    text, run, run_length = yield from without_long_runs(decoded, f"{name}:", number, line.run, line.run_length, replace=reading.replace)
    if first_break >= 0:
        num_bytes, is_left_out = len(raw.data) - last_break - 1, False
    if not reading.replace and not is_left_out:
        tail = raw.data[last_break + 1 :]
        is_left_out = bool(tail) and not text.endswith(tail.decode(errors="replace"))
    return text, OpenLine(num_bytes, is_left_out, run, run_length)
