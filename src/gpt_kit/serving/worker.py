"""The thread that owns the engine, and the bounded queue before it.

    event loop                                    thread
    submit() counts, refuses or notes  ------->   engine.submit
    cancel()                           ------->   engine.cancel, before the next step
    Ticket.events()                    <-------   engine.step(), all events of a step in one call

The counting is done on the event loop alone, so no request slips in between a look and an entry. A choice is counted from submit to
its end or its cancelling; a client that has gone frees its slots before the next step.
"""

from __future__ import annotations

import asyncio
import logging
import math
import queue
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING

from gpt_kit.errors import GPTKitError, InputError
from gpt_kit.serving.errors import ApiError

if TYPE_CHECKING:
    from gpt_kit.generation import Engine, Event, Request

logger = logging.getLogger("uvicorn.error")


class Ticket:
    """The choices of one HTTP request, numbered from 0."""

    def __init__(self, num_choices: int) -> None:
        self.open = set(range(num_choices))
        """Choices that have not ended. Touched by the event loop alone."""
        self.started_at = time.monotonic()
        self.numbers: dict[int, int] = {}
        """Choice -> the engine's number. Touched by the thread alone."""
        self.arrived: asyncio.Queue[tuple[int, Event] | Exception] = asyncio.Queue()

    async def events(self) -> AsyncIterator[tuple[int, Event]]:
        """The events of all choices as they come, until each has ended. Raises: what the engine raised."""
        while self.open or not self.arrived.empty():
            item = await self.arrived.get()
            if isinstance(item, Exception):
                raise item
            yield item


class Worker:
    """Runs one engine for many requests. `submit`, `cancel` and the properties are for the event loop that called `start`."""

    def __init__(self, engine: Engine, *, slots: int, max_outstanding: int) -> None:
        self._engine, self._slots, self._max_outstanding = engine, slots, max_outstanding
        self._commands: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._owners: dict[int, tuple[Ticket, int]] = {}  # engine's number -> whose; the thread's alone
        self._thread = threading.Thread(target=self._work, name="gpt-kit engine", daemon=True)
        self._tickets: set[Ticket] = set()  # with choices that have not ended; the event loop's alone
        self._seconds_per_choice = 1.0
        self.num_outstanding = 0
        """Choices that run or wait."""
        self.is_broken = False
        """The engine cannot go on: nothing is taken any more."""

    def start(self) -> None:
        """Begin to work, for the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def stop(self) -> None:
        """End the thread after the step that runs."""
        self._commands.put(None)
        await asyncio.to_thread(self._thread.join)

    @property
    def num_running(self) -> int:
        """Choices in a slot."""
        return self._engine.num_running

    def submit(self, requests: Sequence[Request]) -> Ticket:
        """Take all of `requests` or none. Raises: ApiError 429 when the queue has no room for them, 503 when the engine is broken."""
        if self.is_broken:
            raise ApiError(503, "the engine has failed; the server has to be started anew")
        if self.num_outstanding + len(requests) > self._max_outstanding:
            raise ApiError(
                429,
                f"the queue is full: {self.num_outstanding} of {self._max_outstanding} places are taken, and this request needs "
                f"{len(requests)}. Try again later",
                headers={"Retry-After": str(self._retry_after_seconds(len(requests)))},
            )
        ticket = Ticket(len(requests))
        self._tickets.add(ticket)
        self.num_outstanding += len(requests)
        self._commands.put(lambda: self._enter(ticket, requests))
        return ticket

    def cancel(self, ticket: Ticket, choice: int | None = None) -> None:
        """Give up one choice, or all that have not ended. What has ended already is left as it is."""
        given_up = ticket.open.copy() if choice is None else ticket.open & {choice}
        if given_up:
            self._close(ticket, given_up)
            self._commands.put(lambda: self._leave(ticket, given_up))

    def give_up(self, error: ApiError) -> None:
        """Cancel everything; whoever waits is told `error`."""
        for ticket in list(self._tickets):
            self.cancel(ticket)
            ticket.arrived.put_nowait(error)

    def _close(self, ticket: Ticket, choices: set[int]) -> None:
        ticket.open -= choices
        self.num_outstanding -= len(choices)
        if not ticket.open:
            self._tickets.discard(ticket)

    def _retry_after_seconds(self, wanted: int) -> int:
        """About when so many choices will have ended, from 1 to 60."""
        return max(1, min(60, math.ceil(self._seconds_per_choice * wanted / self._slots)))

    def _deliver(self, events: list[tuple[Ticket, int, Event]]) -> None:
        for ticket, choice, event in events:
            if choice not in ticket.open:  # cancelled meanwhile
                continue
            if event.end is not None:
                self._close(ticket, {choice})
                self._seconds_per_choice += 0.1 * (time.monotonic() - ticket.started_at - self._seconds_per_choice)
            ticket.arrived.put_nowait((choice, event))

    def _fail(self, ticket: Ticket, error: Exception) -> None:
        self._close(ticket, ticket.open.copy())
        ticket.arrived.put_nowait(error)

    # What follows runs in the thread.

    def _work(self) -> None:
        try:
            while self._obey():
                if not self._engine.is_idle:
                    self._step()
        except RuntimeError as error:
            if not self._loop.is_closed():  # otherwise nobody is there any more
                self._break_down(error)
        except Exception as error:
            self._break_down(error)

    def _obey(self) -> bool:
        """Carry out the commands that have come; with nothing else to do, wait for one. False at the end."""
        wait = self._engine.is_idle
        while True:
            try:
                command = self._commands.get(block=wait)
            except queue.Empty:
                return True
            if command is None:
                return False
            command()
            wait = False

    def _step(self) -> None:
        try:
            events = self._engine.step()
        except Exception as error:  # of memory, for one: those that ran have lost their text, others may go on
            logger.exception("the engine failed in a step; what was running is answered by 500")
            for number in list(self._owners):
                self._engine.cancel(number)
            self._tell_all(error)
            return
        told = []
        for event in events:
            ticket, choice = self._owners[event.request]
            told.append((ticket, choice, event))
            if event.end is not None:
                del self._owners[event.request]
        self._loop.call_soon_threadsafe(self._deliver, told)

    def _enter(self, ticket: Ticket, requests: Sequence[Request]) -> None:
        try:
            for choice, request in enumerate(requests):
                number = self._engine.submit(request)
                ticket.numbers[choice] = number
                self._owners[number] = (ticket, choice)
        except Exception as error:
            self._leave(ticket, set(ticket.numbers))
            told = ApiError(400, str(error), code="invalid_value") if isinstance(error, InputError) else error
            self._loop.call_soon_threadsafe(self._fail, ticket, told)

    def _leave(self, ticket: Ticket, choices: set[int]) -> None:
        for choice in choices:
            number = ticket.numbers.get(choice, 0)
            if number in self._owners:
                del self._owners[number]
                self._engine.cancel(number)

    def _tell_all(self, error: Exception) -> None:
        tickets = {id(ticket): ticket for ticket, _ in self._owners.values()}
        self._owners.clear()
        for ticket in tickets.values():
            self._loop.call_soon_threadsafe(self._fail, ticket, GPTKitError(f"the engine failed: {error}"))

    def _break_down(self, error: Exception) -> None:
        logger.critical("the engine is broken and takes nothing any more", exc_info=error)
        self.is_broken = True
        self._tell_all(error)
