"""Reading ahead changes when a batch is read, never which."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from gpt_kit.data import Batch, ReadAhead, TokenArray, TrainingBatches


def batches() -> TrainingBatches:
    return TrainingBatches(TokenArray([np.arange(500)]), length=7, batch_size=3, seed=5)


@pytest.mark.parametrize("numbers", [range(9), [4, 5, 6], [3, 3, 7, 8, 2]], ids=str)
def test_every_batch_is_the_one_that_was_asked_for(numbers: list[int]) -> None:
    read, plain = ReadAhead(batches().batch), batches()
    for number in numbers:
        assert torch.equal(read(number).inputs, plain.batch(number).inputs)


def test_the_next_batch_is_read_while_nobody_asks_for_it() -> None:
    second_read = threading.Event()

    def read(number: int) -> Batch:
        if number == 1:
            second_read.set()
        return batches().batch(number)

    ReadAhead(read)(0)
    assert second_read.wait(timeout=10)


def test_an_error_comes_with_the_batch_that_has_it() -> None:
    def read(number: int) -> Batch:
        if number == 2:
            raise OSError("the disk is gone")
        return batches().batch(number)

    ahead = ReadAhead(read)
    ahead(0), ahead(1)
    with pytest.raises(OSError, match="the disk is gone"):
        ahead(2)
