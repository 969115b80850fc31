"""One request while it runs: from the engine's events to a whole answer, or to a stream of server-sent events.

Whoever asked may go away at any moment; then the choices that still run are given up at once. Both forms of an answer are made of the
same deltas.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from gpt_kit.serving.answers import AnswerForm, Usage
from gpt_kit.serving.choices import Delta
from gpt_kit.serving.errors import ApiError
from gpt_kit.serving.metrics import Metrics
from gpt_kit.serving.planning import Plan
from gpt_kit.serving.worker import Ticket, Worker

T = TypeVar("T")
logger = logging.getLogger("uvicorn.error")


class Generation:
    """The choices of one request that has been submitted."""

    def __init__(self, plan: Plan, ticket: Ticket, worker: Worker, metrics: Metrics) -> None:
        self._plan, self._ticket, self._worker, self._metrics = plan, ticket, worker, metrics

    @property
    def num_choices(self) -> int:
        """How many texts there will be."""
        return len(self._plan.texts)

    @property
    def usage(self) -> Usage:
        """Tokens so far; a prompt is counted once, however many choices go on from it."""
        return Usage(self._plan.num_prompt_tokens, sum(text.num_tokens for text in self._plan.texts))

    async def deltas(self) -> AsyncGenerator[tuple[int, Delta]]:
        """What is new, choice by choice, until all are whole. Closing it gives up what still runs. Raises: what the engine raised."""
        is_first = True
        try:
            async for choice, event in self._ticket.events():
                if is_first:
                    self._metrics.count_first_token(time.monotonic() - self._ticket.started_at)
                    is_first = False
                text = self._plan.texts[choice]
                delta = text.feed(event)
                if text.finish_reason is not None:  # by a stop string, of which the engine knows nothing
                    self._worker.cancel(self._ticket, choice)
                if delta:
                    yield choice, delta
        finally:
            self._worker.cancel(self._ticket)
            self._metrics.count_tokens(self.usage.prompt_tokens, self.usage.completion_tokens)

    async def whole(self) -> list[Delta]:
        """All of every choice."""
        choices = [Delta() for _ in self._plan.texts]
        async with aclosing(self.deltas()) as deltas:
            async for i, delta in deltas:
                choices[i].text += delta.text
                choices[i].tokens += delta.tokens
                choices[i].finish_reason = delta.finish_reason
        return choices


async def answer(request: Request, generation: Generation, form: AnswerForm, *, stream: bool) -> Response:
    """The answer in `form`."""
    if stream:
        return EventStream(generation, form)
    choices = await _unless_gone(request.receive, generation.whole())
    if choices is None:
        return Response(status_code=499)  # heard by nobody
    return JSONResponse(form.whole(choices, generation.usage))


class EventStream(Response):
    """Server-sent events, one object each. Everything outside ASCII is escaped: some clients take U+2028 for the end of a line."""

    media_type = "text/event-stream"

    def __init__(self, generation: Generation, form: AnswerForm) -> None:
        super().__init__(headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._generation, self._form = generation, form

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send all events, unless the client goes away."""
        del scope
        await _unless_gone(receive, self._send_all(send))

    async def _send_all(self, send: Send) -> None:
        async with aclosing(self._events()) as events:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            async for event in events:
                await send({"type": "http.response.body", "body": event, "more_body": True})
            await send({"type": "http.response.body", "body": b""})

    async def _events(self) -> AsyncGenerator[bytes]:
        form = self._form
        try:
            async with aclosing(self._generation.deltas()) as deltas:
                for chunk in form.first_chunks(self._generation.num_choices):
                    yield _event(chunk)
                async for choice, delta in deltas:
                    yield _event(form.chunk(choice, delta))
        except Exception as error:  # the status is sent already: the error is an event of its own
            logger.error("a stream was broken off", exc_info=error)
            told = error if isinstance(error, ApiError) else ApiError(500, "something went wrong in the server; its log says what")
            yield _event(told.body())
            return
        if form.has_usage:
            yield _event(form.usage_chunk(self._generation.usage))
        yield b"data: [DONE]\n\n"


def _event(content: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(content, separators=(",", ":"), allow_nan=False).encode() + b"\n\n"


async def _unless_gone(receive: Receive, work: Coroutine[Any, Any, T]) -> T | None:
    """What `work` gives; None when the client goes away first: `work` is cancelled then."""
    task, watcher = asyncio.create_task(work), asyncio.create_task(_gone(receive))
    try:
        await asyncio.wait({task, watcher}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        task.cancel()
        watcher.cancel()
        await asyncio.gather(task, watcher, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
