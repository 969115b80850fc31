"""Equal documents, counted from their digests in constant memory and linear time.

A digest is eight bytes, so that ten billion documents take 80 GB on disk. They are parted by their upper bits, once, into ranges
that are small enough to sort in memory; the parted copy lies in a file without a name, which ends with the process. Two of n
different documents share a digest with a probability of about n² / 2^65.
"""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

AT_ONCE = 4_000_000
"""Digests sorted at a time: 32 MB, and some times that while they are compared."""
_MOST_BITS = 16
"""65,536 ranges: enough for 260 billion documents."""
_BYTES = 8
Digests = NDArray[np.uint64]


def count_duplicates(train: Digests, val: Digests, scratch: Path) -> tuple[int, int]:
    """(how many documents are repeats of another, on either side; how many of val stand in train too).

    Where there are more than AT_ONCE, they lie a second time in the folder `scratch` meanwhile.
    """
    bits = min(_MOST_BITS, ((len(train) + len(val)) // AT_ONCE).bit_length())
    distinct = seen_in_training = 0
    for theirs, ours in zip(_ranges(train, bits, scratch), _ranges(val, bits, scratch), strict=True):
        known = own = np.zeros(0, np.uint64)
        for block in theirs:
            known = _distinct(known, np.sort(block))
        for block in ours:
            ordered = np.sort(block)
            seen_in_training += _count_known(ordered, known)
            own = _distinct(own, ordered)
        distinct += len(known) + len(own) - _count_known(own, known)
    return len(train) + len(val) - distinct, seen_in_training


def _distinct(known: Digests, more: Digests) -> Digests:
    """Both, sorted as they are, each once. (np.unique puts integers through a hash table: many times as long and much more memory.)"""
    ordered = np.sort(np.concatenate([known, more])) if len(known) else more
    distinct: Digests = ordered[np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)]]
    return distinct


def _count_known(ordered: Digests, known: Digests) -> int:
    if not len(known):
        return 0
    places = np.minimum(np.searchsorted(known, ordered), len(known) - 1)
    return int(np.count_nonzero(known[places] == ordered))


def _ranges(digests: Digests, bits: int, scratch: Path) -> Iterator[Iterator[Digests]]:
    """The digests by their upper `bits`, each range in blocks: a text that stands there a billion times must not fill the memory."""
    if not bits:
        yield _blocks(digests)
        return
    sizes = sum(np.bincount(_upper(block, bits), minlength=1 << bits) for block in _blocks(digests)) + np.zeros(1 << bits, np.int64)
    starts = np.cumsum(sizes) - sizes
    with tempfile.TemporaryFile(dir=scratch) as file:
        ends = starts.copy()  # of what is written so far
        for block in _blocks(digests):
            upper = _upper(block, bits)
            ordered = block[np.argsort(upper, kind="stable")]  # of 16 bits: a radix sort, at a tenth of the price
            borders = np.append(0, np.cumsum(np.bincount(upper, minlength=1 << bits)))
            for number in np.flatnonzero(np.diff(borders)):
                part = ordered[borders[number] : borders[number + 1]]
                file.seek(int(ends[number]) * _BYTES)
                file.write(part.tobytes())
                ends[number] += len(part)
        for start, size in zip(starts.tolist(), sizes.tolist(), strict=True):
            yield _blocks_in(file, start, size)


def _upper(digests: Digests, bits: int) -> NDArray[np.uint16]:
    return (digests >> np.uint64(64 - bits)).astype(np.uint16)


def _blocks_in(file: BinaryIO, start: int, size: int) -> Iterator[Digests]:
    for offset in range(start, start + size, AT_ONCE):
        file.seek(offset * _BYTES)
        yield np.frombuffer(file.read(min(AT_ONCE, start + size - offset) * _BYTES), np.uint64)


def _blocks(digests: Digests) -> Iterator[Digests]:
    for start in range(0, len(digests), AT_ONCE):
        yield np.asarray(digests[start : start + AT_ONCE])
        if isinstance(digests, np.memmap):  # pages that were passed by would count as memory of this process
            digests._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]
