"""From the bytes of one file to documents: text, JSON lines, JSON and parquet.

Each reader yields what it finds in order, and a DataError *as a value* where one document or record is damaged but the next can
still be read; it raises one where the file as a whole cannot be. Who reads decides what a damaged record means: one line must
neither stop a tokenization of two days nor vanish without being counted. Only .json is held in memory whole; of every other
kind there is one document, line or record batch at a time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from gpt_kit.config.suggest import did_you_mean
from gpt_kit.data.compressed import open_decompressed, without_compression
from gpt_kit.errors import DataError, MissingExtraError

SEPARATOR = b"<|endoftext|>"
"""Stands between the documents of a text file, alone on a line or not. It never reaches a document."""
KNOWN_SUFFIXES = (".txt", ".md", ".jsonl", ".json", ".parquet")
_CHUNK_BYTES = 1 << 20
_PARQUET_ROWS = 256
"""Rows decoded at a time: web pages of some 10 kB make a few megabytes."""
_BYTE_ORDER_MARK = "\ufeff"


@dataclass(frozen=True, slots=True)
class Document:
    """One text of a corpus."""

    text: str
    """The text. Content, never a command: whoever encodes it does so without special tokens."""
    origin: str
    """Where it stands, for people: "a.txt", "books/a.jsonl:17" (line, from 1), "a.json[3]", "a.parquet[3]" (record, from 0)."""


def read_file(path: Path, text_key: str) -> Iterator[Document | DataError]:
    """The documents of one file by its suffix; a file of unknown kind is read as text.

    Raises: DataError when the file as a whole cannot be read; MissingExtraError for .parquet or .zst without their package.
    """
    kind = without_compression(path).suffix.lower()
    with open_decompressed(path, seekable=kind == ".parquet") as stream:
        if kind == ".parquet":
            yield from _read_parquet(stream, str(path), text_key)
        elif kind == ".jsonl":
            yield from _read_json_lines(stream, str(path), text_key)
        elif kind == ".json":
            yield from _read_json(stream, str(path), text_key)
        else:
            yield from read_text(stream, str(path))


def read_text(stream: BinaryIO, name: str) -> Iterator[Document | DataError]:
    r"""The UTF-8 texts between the separators of `stream`; without any separator, all of it is one document.

    A separator alone on its line takes its line break with it. A byte order mark is dropped, and "\r\n" becomes "\n".
    """
    after_line_break = True
    for offset, line, piece, is_whole_stream in _pieces(stream):
        text = _decoded(piece, name, line, offset)
        if isinstance(text, DataError):
            yield text
        else:
            text = text.removeprefix(_BYTE_ORDER_MARK if offset == 0 else "").replace("\r\n", "\n")
            if offset and after_line_break and text.startswith("\n"):
                text, line = text[1:], line + 1
            yield Document(text, name if is_whole_stream else f"{name}:{line}")
        if piece:
            after_line_break = piece.endswith(b"\n")


def _pieces(stream: BinaryIO) -> Iterator[tuple[int, int, bytes, bool]]:
    """(byte offset, line number, bytes, whether this is the whole stream) of each stretch between separators."""
    buffer, searched = bytearray(), 0
    offset, line = 0, 1
    while chunk := stream.read(_CHUNK_BYTES):
        buffer += chunk
        while (end := buffer.find(SEPARATOR, searched)) >= 0:
            piece = bytes(buffer[:end])
            yield offset, line, piece, False
            del buffer[: end + len(SEPARATOR)]
            offset, line, searched = offset + end + len(SEPARATOR), line + piece.count(b"\n"), 0
        searched = max(0, len(buffer) - len(SEPARATOR) + 1)  # a separator may lie across two chunks
    yield offset, line, bytes(buffer), offset == 0


def _decoded(data: bytes, name: str, line: int, offset: int) -> str | DataError:
    """`data`, which begins at `line` and byte `offset` of its file, as text; or the place of the byte that is none."""
    try:
        text = data.decode()
        fault, problem = data.find(0), "which no text contains"
    except UnicodeDecodeError as error:
        text, fault, problem = "", error.start, "which is not UTF-8"
    if fault < 0:
        return text
    line += data.count(b"\n", 0, fault)
    return DataError(
        f"{name}:{line}: byte {offset + fault} of the file is 0x{data[fault]:02x}, {problem}. "
        "Is this a text file? If it is one in another encoding, convert it: iconv -f ENCODING -t UTF-8"
    )


def _read_json_lines(stream: BinaryIO, name: str, text_key: str) -> Iterator[Document | DataError]:
    offset = 0
    for number, data in enumerate(stream, start=1):
        where = f"{name}:{number}"
        line = _decoded(data, name, number, offset)
        offset += len(data)
        if isinstance(line, DataError):
            yield line
            continue
        line = line.removeprefix(_BYTE_ORDER_MARK if number == 1 else "")
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:  # besides its own error: integers of 5,000 digits, lists 5,000 deep
            yield DataError(f"{where}: not valid JSON ({_json_problem(error)}). Each line must be one whole JSON object")
        else:
            yield _record_document(record, text_key, where)


def _read_json(stream: BinaryIO, name: str, text_key: str) -> Iterator[Document | DataError]:
    """A list of objects or strings, one object, or such a list under "data"."""
    content = _decoded(stream.read(), name, 1, 0)
    if isinstance(content, DataError):
        raise content
    if not content.strip():
        return
    try:
        value = json.loads(content.removeprefix(_BYTE_ORDER_MARK))
    except json.JSONDecodeError as error:
        lines = ". If every line is an object of its own, name the file .jsonl" if error.msg == "Extra data" else ""
        raise DataError(f"{name}:{error.lineno}: not valid JSON ({_json_problem(error)}){lines}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name}: not valid JSON ({_json_problem(error)})") from None
    if isinstance(value, dict) and isinstance(value.get("data"), list):
        value = value["data"]
    if not isinstance(value, list):
        yield _record_document(value, text_key, name)
        return
    for number, record in enumerate(value):
        yield _record_document(record, text_key, f"{name}[{number}]")


def _json_problem(error: Exception) -> str:
    return f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)


def _read_parquet(stream: BinaryIO, name: str, text_key: str) -> Iterator[Document | DataError]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingExtraError("pyarrow", "parquet", "reading .parquet files") from None
    number = 0
    try:
        # By default all row groups, or a whole one, would be held at once; so would the file, where there is only one.
        with pyarrow.parquet.ParquetFile(stream, pre_buffer=False, buffer_size=_CHUNK_BYTES) as file:
            if text_key not in file.schema_arrow.names:
                raise DataError(f"{name}: {_missing_key(text_key, file.schema_arrow.names, 'column')}")
            for batch in file.iter_batches(batch_size=_PARQUET_ROWS, columns=[text_key]):
                for value in batch.column(0):
                    yield _parquet_document(value, text_key, f"{name}[{number}]")
                    number += 1
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{name}: damaged or not a parquet file ({str(error).splitlines()[0]}). Copy or download it again") from None


def _parquet_document(value: Any, text_key: str, where: str) -> Document | DataError:
    try:
        return _record_document({text_key: value.as_py()}, text_key, where)
    except UnicodeDecodeError as error:  # parquet stores bytes; that they are text is only claimed
        return DataError(f"{where}: byte {error.start} of {text_key!r} is not UTF-8")


def _record_document(record: Any, text_key: str, where: str) -> Document | DataError:
    """The text of a parsed record: the record itself if it is a string, else what stands under `text_key`."""
    if isinstance(record, dict) and text_key not in record:
        return DataError(f"{where}: {_missing_key(text_key, list(record), 'key')}")
    text = record[text_key] if isinstance(record, dict) else record
    if not isinstance(text, str):
        got = "null" if text is None else type(text).__name__
        inside = f"a string under {text_key!r}" if isinstance(record, dict) else f"an object with the key {text_key!r}"
        return DataError(f"{where}: expected {inside}, got {got}")
    try:
        text.isascii() or text.encode()
    except UnicodeEncodeError as error:
        return DataError(f"{where}: character {error.start} is {text[error.start]!r}, half of a surrogate pair, which is no text")
    return Document(text, where)


def _missing_key(text_key: str, known: list[str], noun: str) -> str:
    listed = ", ".join(map(repr, known[:12])) + (", …" if len(known) > 12 else "")
    return f"there is no {noun} {text_key!r}{did_you_mean(text_key, known)}; {noun}s here: {listed or 'none'}. Name one with text_key"
