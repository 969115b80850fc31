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
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from gpt_kit.data.intake import Piece
from gpt_kit.tokenizers import Tokenizer

UNIT_BYTES = 1_000_000
SIDES = ("train", "val")
_WAITING_PER_THREAD = 3
A = TypeVar("A")
B = TypeVar("B")


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
    unit, size = Unit(), 0
    for side, piece in sided:
        unit.pieces.append((side, piece))
        unit.num_bytes += piece.num_bytes
        size += piece.memory_bytes
        if size >= UNIT_BYTES:
            unit.state = state()
            yield unit
            unit, size = Unit(), 0
    if unit.pieces:
        unit.state = state()
        yield unit


def encode_units(tokenizer: Tokenizer, units: Iterable[Unit], threads: int = 0) -> Iterator[tuple[Unit, dict[str, NDArray[np.uint32]]]]:
    """Each unit with the ids (T,) of either side, in order. `threads`: 0 means one per core."""
    return in_order(lambda unit: (unit, _encode(tokenizer, unit)), units, threads)


def in_order(function: Callable[[A], B], items: Iterable[A], threads: int = 0) -> Iterator[B]:
    """`function` of each item on a pool of threads, in order; only a few items wait at a time."""
    threads = threads or os.cpu_count() or 1
    waiting: deque[Future[B]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            while waiting and (len(waiting) > _WAITING_PER_THREAD * threads or waiting[0].done()):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _encode(tokenizer: Tokenizer, unit: Unit) -> dict[str, NDArray[np.uint32]]:
    opening = np.array([] if tokenizer.end_of_text_id is None else [tokenizer.end_of_text_id], dtype=np.uint32)
    parts: dict[str, list[NDArray[np.uint32]]] = {side: [] for side in SIDES}
    arrays = tokenizer.encode_arrays([piece.text for _, piece in unit.pieces])
    for (side, piece), ids in zip(unit.pieces, arrays, strict=True):
        parts[side] += [opening, ids] if piece.is_first else [ids]
    return {side: np.concatenate(own) if own else opening[:0] for side, own in parts.items()}
