"""Parquet files: one column of texts, or whole rows, a few hundred at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

from gpt_kit.data.damage import BAD_UTF8, Damage, repaired_bytes
from gpt_kit.data.pieces import Position
from gpt_kit.data.plain_text import CHUNK_BYTES, Found, Reading
from gpt_kit.data.records import FoundRecords, Record, missing_key, record_documents
from gpt_kit.errors import DataError, MissingExtraError

if TYPE_CHECKING:
    import pyarrow

_ROWS = 256
"""Decoded at a time: web pages of some 10 kB make a few megabytes."""


def read_parquet_texts(stream: BinaryIO, name: str, reading: Reading, start: int = 0) -> Found:
    """The documents in the column that holds the text, from row `start` on. Raises: DataError where there is no such column."""
    for first, batch in _batches(stream, name, start, reading.text_key):
        for number, value in enumerate(batch.column(0), first):
            yield from _text(value, f"{name}[{number}]", reading, Position(offset=number + 1))


def read_parquet_rows(stream: BinaryIO, name: str) -> FoundRecords:
    """All columns of every row, as a dictionary."""
    for first, batch in _batches(stream, name):
        for i in range(batch.num_rows):
            where = f"{name}[{first + i}]"
            try:
                row = batch.slice(i, 1).to_pylist()[0]
            except UnicodeDecodeError as error:
                yield Damage(BAD_UTF8, f"{where}: byte {error.start} of a text is not UTF-8")
            else:
                yield Record(row, where, Position(offset=first + i + 1))


def _batches(stream: BinaryIO, name: str, start: int = 0, key: str | None = None) -> Iterator[tuple[int, pyarrow.RecordBatch]]:
    """(number of the first row, some rows), from row `start` on; of the column `key` alone, if one is named."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingExtraError("pyarrow", "parquet", "reading .parquet files") from None
    try:
        # By default all row groups, or a whole one, would be held at once; so would the file, where there is only one.
        with pyarrow.parquet.ParquetFile(stream, pre_buffer=False, buffer_size=CHUNK_BYTES) as file:
            if key is not None and key not in file.schema_arrow.names:
                raise DataError(f"{name}: {missing_key(key, file.schema_arrow.names, 'column')}")
            number, groups = 0, list(range(file.metadata.num_row_groups))
            while groups and number + file.metadata.row_group(groups[0]).num_rows <= start:
                number += file.metadata.row_group(groups.pop(0)).num_rows
            for batch in file.iter_batches(batch_size=_ROWS, row_groups=groups, columns=None if key is None else [key]):
                passed = max(0, start - number)
                if passed < batch.num_rows:
                    yield number + passed, batch.slice(passed)
                number += batch.num_rows
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{name}: damaged or not a parquet file ({str(error).splitlines()[0]}). Copy or download it again") from None


def _text(value: Any, where: str, reading: Reading, end: Position) -> Found:
    try:
        text = value.as_py()
    except UnicodeDecodeError as error:  # parquet stores bytes; that they are text is only claimed
        yield Damage(BAD_UTF8, f"{where}: byte {error.start} of {reading.text_key!r} is not UTF-8", repaired=reading.replace)
        if not reading.replace:
            return
        text = repaired_bytes(value.as_buffer().to_pybytes())
    yield from record_documents({reading.text_key: text}, where, reading, end)
