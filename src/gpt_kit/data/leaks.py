"""Near-duplicates: validation text that the model has seen in training, edited here and there.

Exact copies are found by digests (duplicates.py); a copy with one word changed is not. So windows of WINDOW tokens are compared:
a window counts where a hash of its first ANCHOR tokens falls into a fixed share of all hashes, so that the same text is sampled
wherever it stands (Schleimer et al. 2003 call such choices fingerprints of a document). The sampled windows of val are held as
hashes, and train passes by once. A document is near one in train when more than half of its sampled windows occur there.

Memory is bounded: at most CHECKED_TOKENS of val are looked at, in blocks spread evenly over it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt_kit.data.encoding import in_order
from gpt_kit.data.shards import TokenArray

WINDOW = 32
ANCHOR = 4
SAMPLED = 8
"""One window in so many is sampled."""
FEWEST_WINDOWS = 4
"""Sampled windows below which nothing is said about a document: some 50 tokens."""
CHECKED_TOKENS = 32_000_000
_BLOCK = 1 << 18
_TABLE_BITS = 26
_FIRST, _SECOND, _PAIR, _OFFSET = (np.uint32(number) for number in (0x9E3779B1, 0x85EBCA6B, 0xC2B2AE35, 0x27D4EB2F))
_FACTORS = np.random.default_rng(20).integers(1, 2**63, WINDOW // ANCHOR, dtype=np.uint64) | np.uint64(1)


@dataclass(frozen=True, slots=True)
class Leaks:
    """What was found."""

    documents_checked: int
    """Validation documents with enough sampled windows."""
    documents_near_training: int
    """Those of which more than half of the sampled windows occur in the training text."""
    example: dict[str, int] | None
    """One place, as token offsets: {"val": …, "train": …}."""


def find_leaks(train: TokenArray, val: TokenArray, end_of_text: int | None, progress: Callable[[float], None] = lambda _: None) -> Leaks:
    """Compare the documents of `val`, parted by `end_of_text`, with all of `train`. Some 50 million tokens a second and core.

    `progress` is told which share of `train` has passed by.
    """
    hashes, owners, places = _sampled_val(val, end_of_text)
    if not len(hashes) or len(train) < WINDOW:
        return Leaks(0, 0, None)
    known, index = np.unique(hashes, return_inverse=True)
    found_at = _places_in(train, known, progress)[index]
    counts, hits = np.bincount(owners), np.bincount(owners, weights=found_at >= 0)
    checked = counts >= FEWEST_WINDOWS
    near = checked & (hits * 2 > counts)
    example = None
    if near.any():
        document = int(np.argmax(np.where(near, hits, 0)))
        first = np.flatnonzero((owners == document) & (found_at >= 0))[0]
        example = {"val": int(places[first]), "train": int(found_at[first])}
    return Leaks(int(checked.sum()), int(near.sum()), example)


def _sampled_val(val: TokenArray, end_of_text: int | None) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.int64]]:
    """Hash, document number and offset of every sampled window that lies within one document."""
    parts = []
    documents = 0
    every = 1 + (len(val) - 1) // CHECKED_TOKENS if len(val) else 1
    for start, ids in _blocks(val, every):
        borders = np.cumsum(ids == (-1 if end_of_text is None else end_of_text))
        at, hashes = _sampled(ids)
        inside = borders[at] == borders[at + WINDOW - 1]
        parts.append((hashes[inside], documents + borders[at[inside]], start + at[inside]))
        # The last tokens are read again with the next block; a block further on begins another document.
        documents += int(borders[min(_BLOCK, len(ids)) - 1]) + (every > 1)
    if not parts:
        return np.zeros(0, np.uint64), np.zeros(0, np.int64), np.zeros(0, np.int64)
    hashes, owners, places = (np.concatenate(column) for column in zip(*parts, strict=True))
    return hashes, owners.astype(np.int64), places


def _places_in(train: TokenArray, known: NDArray[np.uint64], progress: Callable[[float], None]) -> NDArray[np.int64]:
    """For every hash of `known` (sorted) an offset in `train` where it occurs, or -1."""
    places = np.full(len(known), -1, dtype=np.int64)
    bits = min(_TABLE_BITS, max(16, len(known).bit_length() + 4))
    table = np.zeros(1 << bits, dtype=bool)  # most windows of train are unknown, and one look here says so
    shift = np.uint64(64 - bits)
    table[known >> shift] = True

    def look_up(block: tuple[int, NDArray[Any]]) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
        start, ids = block
        at, hashes = _sampled(ids)
        likely = table[hashes >> shift]
        at, hashes = at[likely], hashes[likely]
        row = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
        right = known[row] == hashes
        return row[right], start + at[right]

    for number, (rows, found) in enumerate(in_order(look_up, _blocks(train, 1))):
        places[rows] = found
        progress(min(1.0, (number + 1) * _BLOCK / len(train)))
    return places


def _blocks(tokens: TokenArray, every: int) -> Iterator[tuple[int, NDArray[Any]]]:
    """(offset, ids) of every so many blocks, each with the tokens that its last windows reach into."""
    for start in range(0, len(tokens) - WINDOW + 1, _BLOCK * every):
        yield start, tokens.read(start, min(_BLOCK + WINDOW - 1, len(tokens) - start))


def _sampled(ids: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.uint64]]:
    """Offsets of the sampled windows in `ids`, and their hashes."""
    tokens = ids.astype(np.uint32)
    pairs = tokens[:-1] * _FIRST + tokens[1:] * _SECOND + _OFFSET
    groups = pairs[:-2] * _PAIR + pairs[2:]  # ANCHOR tokens: a sum of products, of which the upper bits are good
    at = np.flatnonzero(groups[: len(ids) - WINDOW + 1] < np.uint32(2**32 // SAMPLED))
    hashes = np.zeros(len(at), dtype=np.uint64)
    for offset, factor in zip(range(0, WINDOW, ANCHOR), _FACTORS, strict=True):
        hashes += groups[at + offset] * factor
    return at, (hashes ^ (hashes >> np.uint64(31))) * np.uint64(0x9E3779B97F4A7C15)
