"""Reading ahead: the next batch is read while the device works on this one, so that the model never waits."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from gpt_kit.data.batches import Batch


class ReadAhead:
    """`read`, with the answer for the next number already under way. What it gives is the same, for `read` is a pure function."""

    def __init__(self, read: Callable[[int], Batch]) -> None:
        self._read = read
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="read-ahead")
        self._next: tuple[int, Future[Batch]] | None = None

    def __call__(self, number: int) -> Batch:
        """Batch `number`; what went wrong while reading it is raised here."""
        expected, under_way = self._next or (None, None)
        batch = under_way.result() if under_way is not None and expected == number else self._read(number)
        self._next = (number + 1, self._thread.submit(self._read, number + 1))
        return batch
