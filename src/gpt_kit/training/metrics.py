"""What a run says while it runs, and who listens.

A record is one dictionary per step that was measured: `step`, `tokens_seen`, and where they were measured at that step `train/loss`,
`val/loss`, `learning_rate`, `grad_norm`, `tokens_per_second`. Observers receive records and remarks in words.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Protocol

from gpt_kit.errors import DataError
from gpt_kit.files import is_disk_full, write_atomically

Record = dict[str, Any]


class Observer(Protocol):
    """Somebody who listens to a run."""

    def record(self, record: Record) -> None:
        """Figures of one step."""

    def say(self, text: str) -> None:
        """A remark in words."""

    def progress(self, step: int, activity: str) -> None:
        """Where the run is: after every step, and before anything that takes long."""

    def close(self) -> None:
        """The run is over, however it ended."""


class MetricsFile:
    """`metrics.jsonl`: one record a line, each written through at once.

    Opening it drops what was recorded after `at_step`, and evaluations after `evaluated_step`: they are about to be made again.
    """

    def __init__(self, path: Path, at_step: int, evaluated_step: int) -> None:
        kept = [record for record in read_metrics(path) if record["step"] <= (evaluated_step if "val/loss" in record else at_step)]
        write_atomically(path, "".join(json.dumps(record) + "\n" for record in kept))
        self._file = open(path, "ab", buffering=0)
        self._unwritten = b""

    def record(self, record: Record) -> None:
        """Append one line."""
        known = {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in record.items()}
        self._unwritten += json.dumps(known).encode() + b"\n"  # JSON has no NaN: null says that it was measured and is no number
        try:
            while self._unwritten:
                self._unwritten = self._unwritten[self._file.write(self._unwritten) :]
        except OSError as error:
            if not is_disk_full(error):
                raise  # a full disk is the checkpoint's to report; what found no room is written before the next line

    def say(self, text: str) -> None:
        """Words are not metrics."""

    def progress(self, step: int, activity: str) -> None:
        """Progress is not kept."""

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_metrics(path: Path) -> list[Record]:
    """The records of a run, none where there is no file; a last line that a kill cut short is left out.

    Raises: DataError naming any other line that is no record.
    """
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            int(record["step"]), int(record["tokens_seen"])
        except (ValueError, TypeError, LookupError):
            if number == len(lines) and not line.endswith(b"\n"):
                break
            raise DataError(f"{path}:{number}: not a record of a run. Delete that line; nothing but curves depends on it") from None
        records.append(record)
    return records
