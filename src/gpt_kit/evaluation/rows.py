"""The rows of a task: of a dataset on the hub, or of a local file with its columns.

Local files are .jsonl, .json and .parquet, plain or packed, and for labelled sentences also .tsv and .csv.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt_kit.data.compressed import without_compression
from gpt_kit.data.damage import Damage
from gpt_kit.data.hub import HubText, read_hub_rows
from gpt_kit.data.labelled import read_labelled
from gpt_kit.data.readers import RECORD_SUFFIXES, read_records
from gpt_kit.data.records import Record
from gpt_kit.errors import DataError
from gpt_kit.evaluation.records import rows_sha256
from gpt_kit.files import sha256_of_file

TABLE_SUFFIXES = (".tsv", ".csv")
SENTIMENTS = ("negative", "positive")


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows as dictionaries, each with its place for people; and what they are."""

    rows: list[tuple[dict[str, Any], str]]
    name: str
    sha256: str
    """Of the file; of a dataset on the hub, of its rows as lines of JSON."""


def read_rows(file: str, dataset: HubText) -> Rows:
    """The rows of `file`, or where it is empty of `dataset`.

    Raises: DataError for a file that is not there, damaged or of another kind, or a hub that cannot be reached; MissingExtraError.
    """
    if file:
        return Rows(list(_of_file(Path(file).expanduser())), file, sha256_of_file(Path(file).expanduser()))
    name = ":".join(filter(None, (dataset.repository, dataset.config, dataset.split)))
    rows = [(dict(record.value), record.where) for record in read_hub_rows(name, dataset, "off")]
    return Rows(rows, name, rows_sha256(row for row, _ in rows))


def _of_file(path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    kind = without_compression(path).suffix.lower()
    if not path.is_file() or kind not in (*RECORD_SUFFIXES, *TABLE_SUFFIXES):
        problem = "there is no such file" if not path.is_file() else "is none of the kinds that hold rows"
        raise DataError(f"{path}: {problem}. Rows are read from {', '.join((*RECORD_SUFFIXES, *TABLE_SUFFIXES))} (plain, .gz or .zst)")
    if kind in TABLE_SUFFIXES:
        labelled = read_labelled(path, names=SENTIMENTS)
        for text, label, place in zip(labelled.texts, labelled.labels, labelled.places, strict=True):
            yield {"sentence": text, "label": label}, place
        return
    for found in read_records(path):
        if isinstance(found, Damage):
            raise found
        yield _as_row(found), found.where


def _as_row(record: Record) -> dict[str, Any]:
    if not isinstance(record.value, dict):
        raise DataError(f"{record.where}: expected an object with a value for each column, got {type(record.value).__name__}")
    return record.value
