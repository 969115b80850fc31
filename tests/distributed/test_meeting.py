"""Processes of one life find each other and nobody else; each draws dropout of its own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import torch

from gpt_kit.runtime.meeting import _ask, _tell
from gpt_kit.runtime.world import ProcessGroup

SECONDS = timedelta(seconds=20)


@pytest.mark.parametrize("first", ["those who ask", "who tells"])
def test_the_living_meet_under_a_name_of_their_own(first: str) -> None:
    """Twice in one store, as torchrun keeps it over a restart, beside the question of a process that died before it was answered."""
    store = torch.distributed.HashStore()
    store.set("question/1", "the word of the dead")
    names = []
    for life in ("first", "second"):
        with ThreadPoolExecutor(3) as pool:
            tell = pool.submit(_tell, store, 3, life) if first == "who tells" else None
            asked = [pool.submit(_ask, store, rank, f"{life} {rank}", SECONDS) for rank in (1, 2)]
            told = tell or pool.submit(_tell, store, 3, life)
            names.append({told.result(), *(future.result() for future in asked)})
    assert names == [{"first"}, {"second"}]


def test_who_is_not_answered_gives_up() -> None:
    with pytest.raises(RuntimeError, match="did not answer"):
        _ask(torch.distributed.HashStore(), 1, "word", timedelta(seconds=0.1))


def test_dropout_is_a_function_of_seed_step_and_process() -> None:
    """So that no two processes drop the same, and a restarted one drops what it would have dropped."""
    drawn = {}
    for seed, step, rank in [(1, 0, 0), (2, 0, 0), (1, 1, 0), (1, 0, 1)]:
        ProcessGroup(rank, 2, 1).seed_step(seed, step)
        drawn[seed, step, rank] = torch.rand(3).tolist()
        torch.rand(5)
        ProcessGroup(rank, 2, 1).seed_step(seed, step)
        assert torch.rand(3).tolist() == drawn[seed, step, rank]
    assert len({str(numbers) for numbers in drawn.values()}) == 4
