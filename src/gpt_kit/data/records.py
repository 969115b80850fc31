"""Parsed records, and the text in one: what .jsonl, .json, .parquet and datasets of the hub have in common."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from gpt_kit.config.suggest import did_you_mean
from gpt_kit.data import pieces
from gpt_kit.data.damage import KEY_MISSING, NOT_A_STRING, Damage, clean_string, is_sound
from gpt_kit.data.pieces import Document, Position, cut_text
from gpt_kit.data.plain_text import Found, Reading

_KEYS_TOLD = 12


class Record(NamedTuple):
    """One parsed value of a file or dataset."""

    value: Any
    """An object of JSON or a row of a table as a dictionary; whatever else somebody wrote there."""
    where: str
    """Where it stands, for people: "a.jsonl:17" (line, from 1), "a.json[3]", "oasst1[3]" (record, from 0)."""
    end: Position
    """The place behind it."""


FoundRecords = Iterator[Record | Damage]


def documents_of(records: Iterable[Record | Damage], reading: Reading) -> Found:
    """The texts of `records`; damage passes through."""
    for found in records:
        if isinstance(found, Damage):
            yield found
        else:
            yield from record_documents(found.value, found.where, reading, found.end)


def record_documents(record: Any, where: str, reading: Reading, end: Position) -> Found:
    """The text of a parsed record, in pieces: the record itself if it is a string, else what stands under the key."""
    key = reading.text_key
    if isinstance(record, dict) and key not in record:
        yield Damage(KEY_MISSING, f"{where}: {missing_key(key, list(record), 'key')}")
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


def missing_key(text_key: str, known: list[str], noun: str) -> str:
    """The complaint about a record without the key that holds the text."""
    return f"there is no {noun} {text_key!r}{did_you_mean(text_key, known)}; {noun}s here: {listed_keys(known)}. Name one with --text-key"


def listed_keys(keys: Iterable[str]) -> str:
    """The first keys of a record, for an error."""
    known = list(keys)
    return (", ".join(map(repr, known[:_KEYS_TOLD])) + (", …" if len(known) > _KEYS_TOLD else "")) or "none"
