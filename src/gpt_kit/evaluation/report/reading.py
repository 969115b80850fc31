"""Files of a run, read so that damage is named and the rest still counts.

Every reader here takes a list `problems` and adds one line to it, with file and line, for whatever it had to leave out. A report is read
when something went wrong too, so nothing in a run is a reason to give none.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


def read_lines(path: Path, parse: Callable[[dict[str, Any]], T], what: str, problems: list[str]) -> list[T]:
    """Every line of a .jsonl file that `parse` accepts, none where there is no file.

    `parse` refuses a line by an ArithmeticError, LookupError, TypeError or ValueError.
    """
    parsed = []
    for number, line in enumerate(read_bytes(path, problems).splitlines(), start=1):
        try:
            record = json.loads(line)
            parsed.append(parse(record if isinstance(record, dict) else {}))
        except (ArithmeticError, LookupError, TypeError, ValueError, RecursionError):
            problems.append(f"{path}:{number}: not {what}; left out")
    return parsed


def read_object(path: Path, problems: list[str]) -> dict[str, Any]:
    """A file that holds one JSON object; empty where there is no file."""
    return _parsed(path, json.loads, "JSON", problems)


def read_toml(path: Path, problems: list[str]) -> dict[str, Any]:
    """A TOML file; empty where there is no file."""
    return _parsed(path, lambda content: tomllib.loads(content.decode("utf-8")), "TOML", problems)


def read_text(path: Path, problems: list[str]) -> str:
    """Text, with a mark in the place of bytes that are not UTF-8; empty where there is no file."""
    return read_bytes(path, problems).decode("utf-8", errors="replace")


def _parsed(path: Path, parse: Callable[[bytes], Any], form: str, problems: list[str]) -> dict[str, Any]:
    content = read_bytes(path, problems)
    try:
        parsed = parse(content) if content else {}
    except (ValueError, RecursionError) as error:
        problems.append(f"{path}: not valid {form} ({error}); left out")
        return {}
    if not isinstance(parsed, dict):
        problems.append(f"{path}: holds no object; left out")
        return {}
    return parsed


def read_bytes(path: Path, problems: list[str]) -> bytes:
    """The file as it is; nothing where there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        problems.append(f"{path}: cannot be read ({error.strerror}); left out")
        return b""
