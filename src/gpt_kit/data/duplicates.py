"""Equal documents, counted from their digests in constant memory.

A digest is eight bytes, so that ten billion documents take 80 GB on disk; they are counted by ranges of their value, each
small enough to sort in memory. Two of n different documents share a digest with a probability of about n² / 2^65.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

AT_ONCE = 4_000_000
"""Digests sorted at a time, about: 32 MB, and twice that while they are compared."""
Digests = NDArray[np.uint64]


def count_duplicates(train: Digests, val: Digests) -> tuple[int, int]:
    """(how many documents are repeats of another, on either side; how many of val stand in train too)."""
    repeats = seen_in_training = 0
    num_ranges = 1 + (len(train) + len(val)) // AT_ONCE
    edges = [number * 2**64 // num_ranges for number in range(num_ranges + 1)]
    for low, high in zip(edges, edges[1:], strict=False):
        ours, theirs = _between(val, low, high), _between(train, low, high)
        known = _distinct(theirs)
        repeats += len(ours) + len(theirs) - len(_distinct(np.concatenate([ours, known])))
        if len(known):
            places = np.minimum(np.searchsorted(known, ours), len(known) - 1)
            seen_in_training += int(np.count_nonzero(known[places] == ours))
    return repeats, seen_in_training


def _distinct(digests: Digests) -> Digests:
    """Sorted, each once. (np.unique puts integers through a hash table, which takes many times as long and much more memory.)"""
    ordered = np.sort(digests)
    distinct: Digests = ordered[np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)]]
    return distinct


def _between(digests: Digests, low: int, high: int) -> Digests:
    return np.concatenate(list(_parts_between(digests, low, high)) or [np.zeros(0, np.uint64)])


def _parts_between(digests: Digests, low: int, high: int) -> Iterator[Digests]:
    for start in range(0, len(digests), AT_ONCE):
        part = np.asarray(digests[start : start + AT_ONCE])
        yield part[(part >= np.uint64(low)) & (part <= np.uint64(high - 1))]
        if isinstance(digests, np.memmap):  # pages that were passed by would count as memory of this process
            digests._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]
