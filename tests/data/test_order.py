"""The order of samples is a pure function and a permutation: every sample once an epoch, every epoch in another order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt_kit.data.order import random_numbers, shuffled_indices

SIZES = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 63, 64, 65, 255, 256, 257, 1000, 1023, 1025, 10_007]


@pytest.mark.parametrize("size", SIZES)
def test_every_epoch_is_a_permutation(size: int) -> None:
    for epoch in (0, 1, 7):
        positions = np.arange(epoch * size, (epoch + 1) * size)
        assert sorted(shuffled_indices(positions, size, seed=5).tolist()) == list(range(size))


@settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 3000), seed=st.integers(0, 2**32), epoch=st.integers(0, 2**20))
def test_any_size_seed_and_epoch_give_a_permutation(size: int, seed: int, epoch: int) -> None:
    positions = np.arange(epoch * size, (epoch + 1) * size)
    assert np.array_equal(np.sort(shuffled_indices(positions, size, seed)), np.arange(size))


def test_seeds_and_epochs_give_different_orders() -> None:
    size = 1000
    orders = [tuple(shuffled_indices(np.arange(size) + epoch * size, size, seed)) for seed in range(4) for epoch in range(4)]
    assert len(set(orders)) == 16
    for order in orders:
        assert sum(a == b for a, b in zip(order, range(size), strict=True)) < 10  # about 1 is left in place by chance


def test_an_order_is_shuffled_and_not_merely_different() -> None:
    """Neighbours in the order are far apart in the text: a third of the size on average, as for a true shuffle."""
    for size in (1000, 4096, 5000):
        order = shuffled_indices(np.arange(size), size, seed=11)
        assert np.abs(np.diff(order)).mean() / size == pytest.approx(1 / 3, abs=0.05)
        assert (np.diff(order) > 0).mean() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("function", [shuffled_indices, random_numbers])
def test_a_position_falls_where_it_falls_however_it_is_asked(function) -> None:
    """Alone, in a block, or in reverse: the answer depends on (seed, position) and nothing else, and the question is not changed."""
    positions = np.arange(2990, 3020)  # across the border of an epoch of 1000
    together = function(positions, 1000, 3)
    assert positions.tolist() == list(range(2990, 3020))
    assert together.tolist() == [function(np.array([p]), 1000, 3)[0] for p in positions]
    assert together[::-1].tolist() == function(positions[::-1].copy(), 1000, 3).tolist()
    assert together.dtype == np.int64


def test_positions_far_into_a_run_work_at_once() -> None:
    """Position 10^15 of a corpus of 10^12 windows: no list is built, and the window is inside."""
    far = np.array([10**15, 10**15 + 1])
    index = shuffled_indices(far, 10**12, seed=1)
    assert (index >= 0).all() and (index < 10**12).all() and index[0] != index[1]


def test_random_numbers_are_in_range_and_even() -> None:
    size, draws = 10, 20_000
    numbers = random_numbers(np.arange(draws), size, seed=2)
    counts = np.bincount(numbers, minlength=size)
    assert len(counts) == size
    # chi-square with 9 degrees of freedom exceeds 27.9 once in a thousand seeds; the seed is fixed
    assert ((counts - draws / size) ** 2 / (draws / size)).sum() < 27.9
    assert abs(np.corrcoef(numbers[:-1], numbers[1:])[0, 1]) < 0.03


def test_random_numbers_differ_by_seed_and_repeat_values() -> None:
    """Drawn with replacement: among 1000 draws of 1000 about 632 are different."""
    first, second = (random_numbers(np.arange(1000), 1000, seed) for seed in (1, 2))
    assert not np.array_equal(first, second)
    assert 580 < len(set(first.tolist())) < 690
