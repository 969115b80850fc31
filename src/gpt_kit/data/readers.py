"""From the bytes of one file to documents, or to records: text, JSON lines, JSON and parquet.

Each reader yields what it finds in order, and Damage *as a value* where one line or record is damaged but the next can still be
read; it raises a DataError where the file as a whole cannot be. Only .json is held in memory whole. Of every other kind there is
one line or record at a time, and a document longer than PIECE_BYTES comes in pieces. With every document comes the place after
it, from which a later reading can go on.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any, BinaryIO

from gpt_kit.data import damage
from gpt_kit.data.compressed import open_decompressed, skip_bytes, without_compression
from gpt_kit.data.damage import NOT_JSON, Damage, decode, long_line, repaired_bytes
from gpt_kit.data.parquet import read_parquet_rows, read_parquet_texts
from gpt_kit.data.pieces import Position
from gpt_kit.data.plain_text import BYTE_ORDER_MARK, CHUNK_BYTES, Found, Reading, read_text
from gpt_kit.data.records import FoundRecords, Record, documents_of
from gpt_kit.errors import DataError

RECORD_SUFFIXES = (".jsonl", ".json", ".parquet")
KNOWN_SUFFIXES = (".txt", ".md", *RECORD_SUFFIXES)
LARGEST_JSON = 100_000_000
"""Bytes of a .json file, unpacked. Parsed, they take some 200 to 800 MB."""
_DECODER = json.JSONDecoder()


def read_file(path: Path, reading: Reading, start: Position | None = None) -> Found:
    """The documents of one file by its suffix; a file of unknown kind is read as text. `start`: from there on.

    Raises: DataError when the file as a whole cannot be read; MissingExtraError for .parquet or .zst without their package.
    """
    start = start or Position()
    kind = without_compression(path).suffix.lower()
    with open_decompressed(path, seekable=kind == ".parquet") as stream:
        if kind == ".parquet":
            yield from read_parquet_texts(stream, str(path), reading, start.offset)
        elif kind == ".json":
            yield from documents_of(_read_json(stream, str(path), reading, start.offset), reading)
        else:
            skip_bytes(stream, start.offset, path)
            if kind == ".jsonl":
                yield from documents_of(_read_json_lines(stream, str(path), reading, start), reading)
            else:
                yield from read_text(stream, str(path), reading, start)


def read_records(path: Path) -> FoundRecords:
    """The records of one file of RECORD_SUFFIXES, as they were parsed. Raises: as `read_file`."""
    kind = without_compression(path).suffix.lower()
    with open_decompressed(path, seekable=kind == ".parquet") as stream:
        if kind == ".parquet":
            yield from read_parquet_rows(stream, str(path))
        elif kind == ".json":
            yield from _read_json(stream, str(path), Reading(), 0)
        else:
            yield from _read_json_lines(stream, str(path), Reading(), Position())


def _read_json_lines(stream: BinaryIO, name: str, reading: Reading, start: Position) -> FoundRecords:
    offset = start.offset
    for number in itertools.count(start.line):
        data = stream.readline(damage.LONGEST_LINE + 1)
        if not data:
            return
        first, offset = offset, offset + len(data)
        if len(data) > damage.LONGEST_LINE and not data.endswith(b"\n"):
            while rest := stream.readline(CHUNK_BYTES):
                offset += len(rest)
                if rest.endswith(b"\n"):
                    break
            yield long_line(name, number)
            continue
        if data.endswith(b"\r\n"):
            reading.normalised["CRLF line end"] += 1
        line = decode(data, name, number, first)
        if isinstance(line, Damage):
            line.repaired = reading.replace
            yield line
            if not reading.replace:
                continue
            line = repaired_bytes(data)
        if number == 1 and line.startswith(BYTE_ORDER_MARK):
            line = line[1:]
            reading.normalised["byte order mark"] += 1
        if line.strip():
            yield _parsed_line(line, f"{name}:{number}", Position(offset=offset, line=number + 1))
        else:
            reading.normalised["empty line"] += 1


def _parsed_line(line: str, where: str, end: Position) -> Record | Damage:
    try:
        return Record(_loads(line), where, end)
    except (ValueError, RecursionError) as error:  # besides its own error: integers of 5,000 digits, lists 5,000 deep
        return Damage(NOT_JSON, f"{where}: not valid JSON ({_json_problem(error)}). Each line must be one whole JSON object")


def _loads(line: str) -> Any:
    """`json.loads`, at two thirds of its price where `line` begins with its value."""
    try:
        record, end = _DECODER.raw_decode(line)
    except ValueError:
        return json.loads(line)
    return record if not line[end:].strip(" \t\r\n") else json.loads(line)


def _read_json(stream: BinaryIO, name: str, reading: Reading, start: int) -> FoundRecords:
    """A list of objects or strings, one object, or such a list under "data"."""
    data = stream.read(LARGEST_JSON + 1)
    if len(data) > LARGEST_JSON:
        raise DataError(
            f"{name}: is larger than {LARGEST_JSON:,} bytes, and a .json file has to be held in memory as a whole. "
            f"Write one record a line, into a .jsonl file: jq -c '.[]' {name} > {name}l"
        )
    content = decode(data, name, 1, 0)
    if isinstance(content, Damage):
        content.repaired = reading.replace
        if not start:
            yield content
        if not reading.replace:
            return
        content = repaired_bytes(data)
    del data
    if not content.strip():
        return
    if content.startswith(BYTE_ORDER_MARK):
        content = content[1:]
        if not start:
            reading.normalised["byte order mark"] += 1
    try:
        value = json.loads(content)
    except json.JSONDecodeError as error:
        lines = ". If every line is an object of its own, name the file .jsonl" if error.msg == "Extra data" else ""
        yield Damage(NOT_JSON, f"{name}:{error.lineno}: not valid JSON ({_json_problem(error)}){lines}")
        return
    except (ValueError, RecursionError) as error:
        yield Damage(NOT_JSON, f"{name}: not valid JSON ({_json_problem(error)})")
        return
    if isinstance(value, dict) and isinstance(value.get("data"), list):
        value = value["data"]
    is_list = isinstance(value, list)
    records = value if is_list else [value]
    for number in range(start, len(records)):
        yield Record(records[number], f"{name}[{number}]" if is_list else name, Position(offset=number + 1))


def _json_problem(error: Exception) -> str:
    return f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
