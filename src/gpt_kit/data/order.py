"""The order of samples as a pure function: (seed, epoch, position) -> index.

No list of indices is stored or shuffled, so a run resumes at any position at once, on any number of machines, over a corpus of
any size. Inside an epoch the function is a permutation: a Feistel network (Luby & Rackoff 1988) mixes the bits of the position,
and positions that land outside the size walk on until they land inside (Black & Rogaway 2002, "cycle walking").
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ROUNDS = 6
Array = NDArray[np.uint64]


def shuffled_indices(positions: NDArray[np.int64], size: int, seed: int) -> NDArray[np.int64]:
    """Where each endless position 0, 1, 2 … of a run falls: each of the `size` samples once an epoch, every epoch in a new order."""
    epochs, within = np.divmod(positions.astype(np.uint64), np.uint64(size))
    half = max(1, (int(size - 1).bit_length() + 1) // 2)
    keys = _mix(epochs + _mix(np.full_like(epochs, seed)))
    index = _feistel(within, keys, half)
    while (outside := index >= size).any():
        index[outside] = _feistel(index[outside], keys[outside], half)
    return index.astype(np.int64)


def random_numbers(positions: NDArray[np.int64], size: int, seed: int) -> NDArray[np.int64]:
    """An independent draw from 0 … size - 1 for every position, the same for the same seed."""
    return (_mix(positions.astype(np.uint64) + _mix(np.full(positions.shape, seed, np.uint64))) % np.uint64(size)).astype(np.int64)


def _feistel(values: Array, keys: Array, half: int) -> Array:
    mask = np.uint64((1 << half) - 1)
    left, right = values >> np.uint64(half), values & mask
    for round_number in range(ROUNDS):
        left, right = right, left ^ (_mix(right + keys + np.uint64(round_number << 40)) & mask)
    return (left << np.uint64(half)) | right


def _mix(x: Array) -> Array:
    """SplitMix64's finaliser (Steele et al. 2014): every input bit moves every output bit. Arithmetic wraps at 64 bits."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
