"""Text -> ids on all cores, in order.

Documents are gathered into units of about a megabyte. A pool of threads encodes them (tiktoken and tokenizers work outside
Python's lock) while the caller reads, hashes and writes; a few units wait at a time. Units depend on the text alone and come back in
order, so the number of threads changes nothing but the time.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt_kit.data.intake import Piece
from gpt_kit.tokenizers import Tokenizer

UNIT_BYTES = 1_000_000
SIDES = ("train", "val")
_WAITING_PER_THREAD = 3


@dataclass(slots=True)
class Counts:
    """What stands on one side."""

    documents: int = 0
    bytes: int = 0
    characters: int = 0


@dataclass(slots=True)
class Unit:
    """Text that one thread encodes, and what is true once it is written."""

    pieces: list[tuple[str, Piece]] = field(default_factory=list)
    """(side, piece)"""
    num_bytes: int = 0
    state: dict[str, Any] | None = None
    """From which reading can go on behind this unit."""

    def counts(self, side: str) -> Counts:
        """Documents are counted where they begin."""
        own = [piece for on, piece in self.pieces if on == side]
        return Counts(sum(piece.is_first for piece in own), sum(piece.num_bytes for piece in own), sum(len(piece.text) for piece in own))

    def digests(self, side: str) -> bytes:
        """Of the documents that end here, one after the other."""
        return b"".join(piece.digest for on, piece in self.pieces if on == side and piece.is_last)


def gather(sided: Iterable[tuple[str, Piece]], state: Callable[[], dict[str, Any] | None] = lambda: None) -> Iterator[Unit]:
    """Pieces of either side in units; `state` is asked at the end of each."""
    unit = Unit()
    for side, piece in sided:
        unit.pieces.append((side, piece))
        unit.num_bytes += piece.num_bytes
        if unit.num_bytes >= UNIT_BYTES:
            unit.state = state()
            yield unit
            unit = Unit()
    if unit.pieces:
        unit.state = state()
        yield unit


def encode_units(tokenizer: Tokenizer, units: Iterable[Unit], threads: int = 0) -> Iterator[tuple[Unit, dict[str, NDArray[np.uint32]]]]:
    """Each unit with the ids (T,) of either side, in order. `threads`: 0 means one per core."""
    threads = threads or os.cpu_count() or 1
    waiting: deque[tuple[Unit, Future[dict[str, NDArray[np.uint32]]]]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for unit in units:
            waiting.append((unit, pool.submit(_encode, tokenizer, unit)))
            while waiting and (len(waiting) > _WAITING_PER_THREAD * threads or waiting[0][1].done()):
                first, future = waiting.popleft()
                yield first, future.result()
        for unit, future in waiting:
            yield unit, future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _encode(tokenizer: Tokenizer, unit: Unit) -> dict[str, NDArray[np.uint32]]:
    opening = np.array([] if tokenizer.end_of_text_id is None else [tokenizer.end_of_text_id], dtype=np.uint32)
    parts: dict[str, list[NDArray[np.uint32]]] = {side: [] for side in SIDES}
    for side, piece in unit.pieces:
        parts[side] += [opening, tokenizer.encode_array(piece.text)] if piece.is_first else [tokenizer.encode_array(piece.text)]
    return {side: np.concatenate(arrays) if arrays else opening[:0] for side, arrays in parts.items()}
