"""Ctrl-C and SIGTERM as a request that the work can answer when it is whole."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable, Iterator
from types import FrameType, TracebackType

from torch import Tensor, nn


class Interrupted(Exception):
    """Leaves work that a stop request cuts short."""


@contextlib.contextmanager
def interruptible(modules: Iterable[nn.Module], stop: StopRequest) -> Iterator[None]:
    """Let `stop` cut forward and backward passes short wherever one of `modules` is passed, so that no pass outlasts its patience.

    Raises in them: Interrupted. Gradients and random states are then those of half a step: drop the ones, put the others back.
    """

    def check(*_: object) -> None:
        if stop:
            raise Interrupted

    def after_forward(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        check()
        if output.requires_grad:
            output.register_hook(check)  # type: ignore[no-untyped-call]

    handles = [module.register_forward_hook(after_forward) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class StopRequest:
    """Inside the `with` block the first SIGINT, SIGTERM or SIGHUP sets `signal_number` and says so; a second one ends the process at once.

    A closed terminal (SIGHUP) asks only once, and not at all where `nohup` told the process to go on.
    """

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._previous: dict[int, object] = {}

    def __bool__(self) -> bool:
        return self.signal_number is not None

    def __enter__(self) -> StopRequest:
        self._previous = {number: signal.signal(number, self._receive) for number in _asking()}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        self.signal_number = number
        for again in (signal.SIGINT, signal.SIGTERM):
            signal.signal(again, signal.SIG_DFL)
        if hasattr(signal, "SIGHUP"):
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        line = "saving, then stopping; once more to stop at once\n"
        with contextlib.suppress(OSError):  # stderr may be closed. os.write: a print could interrupt another and find its buffer locked
            os.write(2, f"\n{line}".encode() if os.isatty(2) else line.encode())  # in a terminal, below "^C" and the live line


def _asking() -> list[int]:
    if not hasattr(signal, "SIGHUP") or signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # Windows; nohup
        return [signal.SIGINT, signal.SIGTERM]
    return [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
