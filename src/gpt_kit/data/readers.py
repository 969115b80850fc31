"""From the bytes of one file to documents: text, JSON lines, JSON and parquet.

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

from gpt_kit.config.suggest import did_you_mean
from gpt_kit.data import damage, pieces
from gpt_kit.data.compressed import open_decompressed, skip_bytes, without_compression
from gpt_kit.data.damage import (
    BAD_UTF8,
    KEY_MISSING,
    NOT_A_STRING,
    NOT_JSON,
    Damage,
    clean_string,
    decode,
    is_sound,
    long_line,
    repaired_bytes,
)  # fmt: skip
from gpt_kit.data.pieces import Document, Position, cut_text
from gpt_kit.data.plain_text import BYTE_ORDER_MARK, CHUNK_BYTES, Found, Reading, read_text
from gpt_kit.errors import DataError, MissingExtraError

KNOWN_SUFFIXES = (".txt", ".md", ".jsonl", ".json", ".parquet")
LARGEST_JSON = 100_000_000
"""Bytes of a .json file, unpacked. Parsed, they take some 200 to 800 MB."""
_PARQUET_ROWS = 256
"""Rows decoded at a time: web pages of some 10 kB make a few megabytes."""
_DECODER = json.JSONDecoder()


def read_file(path: Path, reading: Reading, start: Position | None = None) -> Found:
    """The documents of one file by its suffix; a file of unknown kind is read as text. `start`: from there on.

    Raises: DataError when the file as a whole cannot be read; MissingExtraError for .parquet or .zst without their package.
    """
    start = start or Position()
    kind = without_compression(path).suffix.lower()
    with open_decompressed(path, seekable=kind == ".parquet") as stream:
        if kind == ".parquet":
            yield from _read_parquet(stream, str(path), reading, start.offset)
        elif kind == ".json":
            yield from _read_json(stream, str(path), reading, start.offset)
        else:
            skip_bytes(stream, start.offset, path)
            read = _read_json_lines if kind == ".jsonl" else read_text
            yield from read(stream, str(path), reading, start)


def _read_json_lines(stream: BinaryIO, name: str, reading: Reading, start: Position) -> Found:
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
            yield from _parsed_line(line, f"{name}:{number}", reading, Position(offset=offset, line=number + 1))
        else:
            reading.normalised["empty line"] += 1


def _parsed_line(line: str, where: str, reading: Reading, end: Position) -> Found:
    try:
        record = _loads(line)
    except (ValueError, RecursionError) as error:  # besides its own error: integers of 5,000 digits, lists 5,000 deep
        yield Damage(NOT_JSON, f"{where}: not valid JSON ({_json_problem(error)}). Each line must be one whole JSON object")
    else:
        yield from record_documents(record, where, reading, end)


def _loads(line: str) -> Any:
    """`json.loads`, at two thirds of its price where `line` begins with its value."""
    try:
        record, end = _DECODER.raw_decode(line)
    except ValueError:
        return json.loads(line)
    return record if not line[end:].strip(" \t\r\n") else json.loads(line)


def _read_json(stream: BinaryIO, name: str, reading: Reading, start: int) -> Found:
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
        yield from record_documents(records[number], f"{name}[{number}]" if is_list else name, reading, Position(offset=number + 1))


def _json_problem(error: Exception) -> str:
    return f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)


def _read_parquet(stream: BinaryIO, name: str, reading: Reading, start: int) -> Found:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingExtraError("pyarrow", "parquet", "reading .parquet files") from None
    key = reading.text_key
    try:
        # By default all row groups, or a whole one, would be held at once; so would the file, where there is only one.
        with pyarrow.parquet.ParquetFile(stream, pre_buffer=False, buffer_size=CHUNK_BYTES) as file:
            if key not in file.schema_arrow.names:
                raise DataError(f"{name}: {_missing_key(key, file.schema_arrow.names, 'column')}")
            number, groups = 0, list(range(file.metadata.num_row_groups))
            while groups and number + file.metadata.row_group(groups[0]).num_rows <= start:
                number += file.metadata.row_group(groups.pop(0)).num_rows
            for batch in file.iter_batches(batch_size=_PARQUET_ROWS, row_groups=groups, columns=[key]):
                for value in batch.column(0):
                    number += 1
                    if number > start:
                        yield from _parquet_record(value, f"{name}[{number - 1}]", reading, Position(offset=number))
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{name}: damaged or not a parquet file ({str(error).splitlines()[0]}). Copy or download it again") from None


def _parquet_record(value: Any, where: str, reading: Reading, end: Position) -> Found:
    try:
        text = value.as_py()
    except UnicodeDecodeError as error:  # parquet stores bytes; that they are text is only claimed
        yield Damage(BAD_UTF8, f"{where}: byte {error.start} of {reading.text_key!r} is not UTF-8", repaired=reading.replace)
        if not reading.replace:
            return
        text = repaired_bytes(value.as_buffer().to_pybytes())
    yield from record_documents({reading.text_key: text}, where, reading, end)


def record_documents(record: Any, where: str, reading: Reading, end: Position) -> Found:
    """The text of a parsed record, in pieces: the record itself if it is a string, else what stands under the key."""
    key = reading.text_key
    if isinstance(record, dict) and key not in record:
        yield Damage(KEY_MISSING, f"{where}: {_missing_key(key, list(record), 'key')}")
        return
    text = record[key] if isinstance(record, dict) else record
    if not isinstance(text, str):
        got = "null" if text is None else type(text).__name__
        inside = f"a string under {key!r}" if isinstance(record, dict) else f"an object with the key {key!r}"
        yield Damage(NOT_A_STRING, f"{where}: expected {inside}, got {got}")
        return
    if len(text) <= pieces.PIECE_BYTES and is_sound(text):
        yield Document(text, where, end=end)
        return
    for found in clean_string(text, where, replace=reading.replace):
        if isinstance(found, Damage):
            yield found
        else:
            yield from cut_text(found, where, end)


def _missing_key(text_key: str, known: list[str], noun: str) -> str:
    listed = ", ".join(map(repr, known[:12])) + (", …" if len(known) > 12 else "")
    return f"there is no {noun} {text_key!r}{did_you_mean(text_key, known)}; {noun}s here: {listed or 'none'}. Name one with --text-key"
