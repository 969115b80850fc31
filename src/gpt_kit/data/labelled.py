"""Texts with a label each: .tsv, .csv, .jsonl and .json, plain or gz/zst, one row or record an example.

A first row that names its columns is a header; without one, a row is a text and then its label. Labels are names: what stands in the
file, in order (numbers by value), unless names are given for 0, 1, … A row that cannot be used is an error that names the row, and
the others like it.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt_kit.config.suggest import did_you_mean
from gpt_kit.data.compressed import open_decompressed, without_compression
from gpt_kit.data.damage import Damage, decode
from gpt_kit.errors import DataError

TEXT_KEYS = ("text", "sentence", "review", "content")
LABEL_KEYS = ("label", "labels", "class", "category", "sentiment", "target")
SUFFIXES = (".tsv", ".csv", ".jsonl", ".json")
NAMED_AT_ONCE = 5  # rows in one message
MOST_LABELS = 1000  # more are hardly labels
Row = tuple[str, Any, Any] | str
"""Place, text and label as they stand in the file; or what is wrong with a row."""


@dataclass(frozen=True, slots=True)
class LabelledTexts:
    """Examples in the order of their file."""

    texts: tuple[str, ...]
    labels: tuple[int, ...]
    """Of each text, its label's place among the names."""
    names: tuple[str, ...]
    """The labels 0, 1, … by name."""
    places: tuple[str, ...]
    """Where each text stands, as file:line or file[number]."""

    def __len__(self) -> int:
        return len(self.texts)

    def only(self, numbers: Sequence[int]) -> LabelledTexts:
        """Some of them."""
        texts, labels, places = (tuple(column[i] for i in numbers) for column in (self.texts, self.labels, self.places))
        return LabelledTexts(texts, labels, self.names, places)  # type: ignore[arg-type]

    @property
    def counts(self) -> list[int]:
        """Texts of each label."""
        counted = Counter(self.labels)
        return [counted[label] for label in range(len(self.names))]


def read_labelled(source: str | Path, *, text_key: str = "", label_key: str = "", names: Sequence[str] = ()) -> LabelledTexts:
    """The examples of a file.

    `text_key` and `label_key` are the columns or keys that hold them; empty: the first of TEXT_KEYS and of LABEL_KEYS that is there.
    `names` are the labels that may occur, as 0, 1, … or by name; empty: those of the file.
    Raises: DataError for a file that is none of the known kinds, and for rows that cannot be used, by their places.
    """
    path = Path(source)
    kind = without_compression(path).suffix.lower()
    if kind not in SUFFIXES:
        raise DataError(f"{path}: labelled texts are read from {', '.join(SUFFIXES)} (plain, .gz or .zst). Rename or convert the file")
    with open_decompressed(path) as stream:
        content = decode(stream.read(), str(path), 1, 0)
    if isinstance(content, Damage):
        raise content
    content = content.removeprefix("\ufeff")
    keys = (text_key, label_key)
    rows = _of_records(content, path, kind, keys) if kind.startswith(".json") else _of_table(content, path, kind, keys)
    return _labelled(list(rows), str(path), tuple(names))


def _of_table(content: str, path: Path, kind: str, keys: tuple[str, str]) -> Iterator[Row]:
    """In a .tsv a quotation mark is one, as in the files of GLUE; in a .csv it encloses a cell."""
    rows = list(_tsv_rows(content) if kind == ".tsv" else _csv_rows(content, path))
    if not rows:
        return
    _, first = rows[0]
    header = _header(first, path, keys)
    if header is None and len(first) != 2:
        between = "a tab" if kind == ".tsv" else "a comma"
        raise DataError(
            f"{path}:1: {len(first)} columns. Without a header a row is a text and its label, with {between} between; "
            "otherwise name the columns in a first row, such as text and label"
        )
    text, label = header or (0, 1)
    for line, row in rows[header is not None :]:
        place = f"{path}:{line}"
        fits = len(row) == len(first)
        yield (place, row[text], row[label]) if fits else f"{place}: {len(row)} columns, where the first row has {len(first)}"


def _tsv_rows(content: str) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(content.split("\n"), start=1):
        if line.strip():
            yield number, line.removesuffix("\r").split("\t")


def _csv_rows(content: str, path: Path) -> Iterator[tuple[int, list[str]]]:
    rows = csv.reader(io.StringIO(content, newline=""), strict=True)
    try:
        yield from ((rows.line_num, row) for row in rows if row)
    except csv.Error as error:
        raise DataError(
            f"{path}:{rows.line_num}: not valid CSV ({error}). A cell with a comma or a quotation mark stands in quotation marks"
        ) from None


def _header(row: list[str], path: Path, keys: tuple[str, str]) -> tuple[int, int] | None:
    """The columns of text and label, where the first row names them."""
    cells = [cell.strip().casefold() for cell in row]
    for key in filter(None, keys):
        if key.casefold() not in cells:
            raise DataError(f"{path}:1: there is no column {key!r}{did_you_mean(key, row)}; columns here: {', '.join(map(repr, row))}")
    text, label = (next((cells.index(name) for name in names if name in cells), None) for names in _wanted(keys))
    return None if text is None or label is None else (text, label)


def _wanted(keys: tuple[str, str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names under which text and label may stand."""
    text, label = (key.casefold() for key in keys)
    return (text,) if text else TEXT_KEYS, (label,) if label else LABEL_KEYS


def _of_records(content: str, path: Path, kind: str, keys: tuple[str, str]) -> Iterator[Row]:
    for place, record in _json_lines(content, path) if kind == ".jsonl" else _json_list(content, path):
        if isinstance(record, ValueError | RecursionError):
            yield f"{place}: not valid JSON ({record})"
        elif not isinstance(record, dict):
            yield f"{place}: a {type(record).__name__}; expected an object with a text and a label"
        else:
            values = {key.casefold(): value for key, value in record.items()}
            text, label = (next((name for name in names if name in values), None) for names in _wanted(keys))
            if text is None or label is None:
                missing = (keys[0] or "text") if text is None else (keys[1] or "label")
                yield f"{place}: there is no key {missing!r}; keys here: {', '.join(map(repr, record)) or 'none'}"
            else:
                yield place, values[text], values[label]


def _json_lines(content: str, path: Path) -> Iterator[tuple[str, object]]:
    for number, line in enumerate(content.split("\n"), start=1):
        if line.strip():
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                record = error
            yield f"{path}:{number}", record


def _json_list(content: str, path: Path) -> Iterator[tuple[str, object]]:
    try:
        records = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not valid JSON ({error})") from None
    if not isinstance(records, list):
        raise DataError(f"{path}: holds a {type(records).__name__}; expected a list of objects, each with a text and a label")
    yield from ((f"{path}[{number}]", record) for number, record in enumerate(records))


def _labelled(rows: list[Row], path: str, names: tuple[str, ...]) -> LabelledTexts:
    if not rows:
        raise DataError(f"{path}: there is no example in it")
    faults = [fault for row in rows if (fault := row if isinstance(row, str) else _fault(*row))]
    _refuse(faults, len(rows), path)
    sound = [(row[0], row[1], str(row[2]).strip()) for row in rows if not isinstance(row, str)]
    if not names:
        _refuse_hidden_header(sound)
        names = _in_order({label for _, _, label in sound})
    # A name goes before a number: labels that are called 1 and 2 are not the labels 0 and 1 by place.
    known = {str(number): number for number in range(len(names))} | {name: number for number, name in enumerate(names)}
    strangers = [
        f"{place}: the label {label!r} is none of {', '.join(names)}{did_you_mean(label, names)}"
        for place, _, label in sound
        if label not in known
    ]
    _refuse(strangers, len(rows), path)
    if not 2 <= len(names) <= MOST_LABELS:
        raise DataError(f"{path}: {len(names)} different labels, such as {names[0]!r}; a classifier needs 2 to {MOST_LABELS}")
    places, texts, labels = zip(*sound, strict=True)
    return LabelledTexts(texts, tuple(known[label] for label in labels), names, places)


def _fault(place: str, text: Any, label: Any) -> str:
    if not isinstance(text, str) or not text.strip():
        return f"{place}: no text ({text!r})"
    if not isinstance(label, str | int) or isinstance(label, bool) or not str(label).strip():
        return f"{place}: no label ({label!r}); expected a name or a whole number"
    return ""


def _refuse(faults: list[str], num_rows: int, path: str) -> None:
    if faults:
        more = [f"… and {len(faults) - NAMED_AT_ONCE} more"] if len(faults) > NAMED_AT_ONCE else []
        listed = "\n  ".join([*faults[:NAMED_AT_ONCE], *more])
        raise DataError(f"{path}: {len(faults)} of {num_rows} rows cannot be used. Mend them or take them out:\n  {listed}")


def _is_number(label: str) -> bool:
    return label.removeprefix("-").isdecimal()


def _in_order(labels: Iterable[str]) -> tuple[str, ...]:
    """Numbers by value, before names by letter."""
    return tuple(sorted(labels, key=lambda label: (not _is_number(label), int(label) if _is_number(label) else 0, label)))


def _refuse_hidden_header(rows: list[tuple[str, str, str]]) -> None:
    """A header with unusual names would become an example with a label of its own."""
    (place, text, label), *others = rows
    if others and not _is_number(label) and all(_is_number(other) for _, _, other in others):
        raise DataError(
            f"{place}: this row's label is {label!r}, and all others are numbers. If it is a header, name its columns: "
            f"--text-key {text!r} --label-key {label!r}"
        )
