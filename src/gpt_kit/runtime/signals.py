"""Ctrl-C and SIGTERM: as a request that the work answers when it is whole, or (where it may be left at any moment) as its end."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from types import FrameType, TracebackType

from torch import Tensor, nn

from gpt_kit.errors import RunStopped

PATIENCE_SECONDS = 2.0
"""How long work that may be left at any moment has to put itself in order."""


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
        _let_the_next_one_end_it()
        line = "saving, then stopping; once more to stop at once\n"
        with contextlib.suppress(OSError):  # stderr may be closed. os.write: a print could interrupt another and find its buffer locked
            os.write(2, f"\n{line}".encode() if os.isatty(2) else line.encode())  # in a terminal, below "^C" and the live line


@contextlib.contextmanager
def stoppable(explain: Callable[[int], str]) -> Iterator[None]:
    """The first SIGINT, SIGTERM or SIGHUP leaves this block where it stands; a second one ends the process at once.

    A library at work in code of its own hears no signal. Where the block is not left within PATIENCE_SECONDS, a thread says what
    was to be said and ends the process: only for work that may be killed at any moment.
    Raises: RunStopped with what `explain` says of the signal's number, once the block is left.
    """
    number, asking, is_left = 0, _asking(), threading.Event()

    def receive(received: int, _frame: FrameType | None) -> None:
        nonlocal number
        number = received
        _let_the_next_one_end_it()
        raise KeyboardInterrupt

    hearing, telling = os.pipe()
    os.set_blocking(telling, False)  # as set_wakeup_fd asks for
    watcher = threading.Thread(target=_end_where_nobody_answers, args=(hearing, asking, is_left, explain), daemon=True)
    watcher.start()
    previous = {each: signal.signal(each, receive) for each in asking}
    former = signal.set_wakeup_fd(telling)
    try:
        yield
    except BaseException:  # where a library was interrupted, it may have made another error of it
        if not number:
            raise
    finally:
        signal.set_wakeup_fd(former)
        for each, handler in previous.items():
            signal.signal(each, handler)
        is_left.set()
        os.write(telling, bytes(1))
        watcher.join()
        os.close(telling)
        os.close(hearing)
    if number:
        raise RunStopped(explain(number), number)


def _end_where_nobody_answers(hearing: int, asking: list[int], is_left: threading.Event, explain: Callable[[int], str]) -> None:
    """Wait for the number of a signal (0: there was none), then for the block to be left."""
    while (heard := os.read(hearing, 1)[0]) not in (*asking, 0):
        pass
    if not heard or is_left.wait(PATIENCE_SECONDS):
        return
    try:
        os.write(2, f"gpt-kit: {explain(heard)}\n".encode())
    finally:
        os._exit(128 + heard)


def stop_cause(number: int) -> str:
    """What a signal is called when it is told."""
    return "Ctrl-C" if number == signal.SIGINT else f"signal {number}"


def _let_the_next_one_end_it() -> None:
    for again in (signal.SIGINT, signal.SIGTERM):
        signal.signal(again, signal.SIG_DFL)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _asking() -> list[int]:
    if not hasattr(signal, "SIGHUP") or signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # Windows; nohup
        return [signal.SIGINT, signal.SIGTERM]
    return [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
