"""What `prepare` has written so far: shards, counts and digests of either side, so that work can go on behind any unit.

The counts are only worth something for the tokens that lie on the disk, so `flush` comes before whoever names them.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from gpt_kit.data.duplicates import Digests
from gpt_kit.data.encoding import SIDES, Unit
from gpt_kit.data.intake import DIGEST_BYTES
from gpt_kit.data.shards import ShardWriter
from gpt_kit.tokenizers import Tokenizer

Written = dict[str, dict[str, int]]
"""By side: tokens, documents, bytes, characters, and digests (documents that ended)."""
MARK = ("tokens", "documents", "bytes", "characters", "digests", "in_document")
"""A row of int64 for every unit of a contiguous source: what stood on the training side behind it."""
MARK_BYTES = len(MARK) * 8


class CorpusWriter:
    """Writes encoded units into the shards of `folder`, and what else has to be known into `notes`."""

    def __init__(self, folder: Path, notes: Path, tokenizer: Tokenizer, written: Written | None = None, num_marks: int = 0) -> None:
        """`written`, `num_marks`: go on there; whatever lies behind is dropped."""
        self.written = written or {side: dict.fromkeys(MARK[:-1], 0) for side in SIDES}
        size, fingerprint = tokenizer.vocab_size, tokenizer.fingerprint
        self.shards = {side: ShardWriter(folder, side, size, fingerprint, keep=self.written[side]["tokens"]) for side in SIDES}
        self._digests = {side: _open_at(digest_file(notes, side), self.written[side]["digests"] * DIGEST_BYTES) for side in SIDES}
        self._marks = _open_at(mark_file(notes), num_marks * MARK_BYTES)
        self.num_marks = num_marks

    def write(self, unit: Unit, ids: dict[str, NDArray[np.uint32]]) -> None:
        """Append a unit."""
        for side in SIDES:
            self.shards[side].write(ids[side])
            digests = unit.digests(side)
            self._digests[side].write(digests)
            own = self.written[side]
            own["tokens"] = self.shards[side].num_tokens
            own["digests"] += len(digests) // DIGEST_BYTES
            for name, count in dataclasses.asdict(unit.counts(side)).items():
                own[name] += count
        train = self.written["train"]
        self._marks.write(np.array([*(train[name] for name in MARK[:-1]), not unit.pieces[-1][1].is_last], "<i8").tobytes())
        self.num_marks += 1

    def flush(self) -> None:
        """Bring everything onto the disk, not only to the system."""
        for writer in self.shards.values():
            writer.flush()
        for file in (*self._digests.values(), self._marks):
            file.flush()
            os.fsync(file.fileno())

    def state(self) -> dict[str, Any]:
        """What to go on with."""
        return {"written": {side: dict(own) for side, own in self.written.items()}, "num_marks": self.num_marks}

    def __enter__(self) -> CorpusWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for writer in self.shards.values():
            writer.close()
        for file in (*self._digests.values(), self._marks):
            file.close()


def bytes_in(written: Written | None) -> int:
    """Bytes of text on both sides."""
    return sum(own["bytes"] for own in written.values()) if written else 0


def digest_file(notes: Path, side: str) -> Path:
    """Where the digests of a side's documents lie."""
    return notes / f"{side}.digests"


def mark_file(notes: Path) -> Path:
    """Where the marks lie."""
    return notes / "marks"


def read_digests(notes: Path, side: str) -> Digests:
    """(documents,) digests of a side, mapped."""
    path = digest_file(notes, side)
    return np.memmap(path, dtype="<u8", mode="r") if path.stat().st_size else np.zeros(0, np.uint64)


def _open_at(path: Path, size: int) -> BinaryIO:
    file = open(path, "r+b" if size else "wb")
    file.truncate(size)
    file.seek(size)
    return file
