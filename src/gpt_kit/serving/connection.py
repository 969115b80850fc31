"""Connections within bounds: uvicorn limits neither the time for a head, nor a reader that stalls, nor answers too many in JSON."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from gpt_kit.serving.errors import ApiError
from gpt_kit.serving.limits import ServerLimits


class BoundedConnection(H11Protocol):
    """uvicorn's HTTP/1.1 with two clocks: one runs while a head is incomplete, the other while written bytes wait for their reader."""

    def __init__(self, limits: ServerLimits, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._limits = limits
        self._is_refused = False
        self._head_clock, self._write_clock = _Clock(self, limits.header_seconds), _Clock(self, limits.write_seconds)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Refuse a connection too many; start the clock of the first head."""
        transport.set_write_buffer_limits(high=0)  # any byte that waits counts as waiting
        if len(self.connections) >= self._limits.max_connections:
            self._is_refused, self.transport = True, transport
            transport.write(raw_error(ApiError(503, "too many open connections. Try again later", headers={"Retry-After": "1"})))
            transport.close()
            return
        super().connection_made(transport)
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop both clocks."""
        self._head_clock.stop()
        self._write_clock.stop()
        if not self._is_refused:
            super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """As uvicorn, and look whether a head is whole."""
        if not self._is_refused:
            super().data_received(data)
            self._watch_head()

    def on_response_complete(self) -> None:
        """As uvicorn; the next head may have begun to come already."""
        super().on_response_complete()
        if self.conn.trailing_data[0]:
            self._watch_head()

    def pause_writing(self) -> None:
        """Bytes wait for their reader: start the clock."""
        if not self._is_refused:
            super().pause_writing()
        self._write_clock.start()

    def resume_writing(self) -> None:
        """All was read: stop the clock."""
        self._write_clock.stop()
        if not self._is_refused:
            super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP, answered in OpenAI's form where nothing was answered yet."""
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write(raw_error(ApiError(400, msg, code="invalid_http")))
        self.transport.close()

    def _watch_head(self) -> None:
        """The clock runs from a head's first byte (or the connection's beginning) to its last."""
        if self.conn.their_state is not h11.IDLE:
            self._head_clock.stop()
        elif not self.transport.is_closing():
            self._head_clock.start()


class _Clock:
    """Ends a connection when it runs out. A clock that runs is not started anew."""

    def __init__(self, connection: BoundedConnection, seconds: float) -> None:
        self._connection, self._seconds = connection, seconds
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        if self._handle is None:
            self._handle = self._connection.loop.call_later(self._seconds, lambda: self._connection.transport.abort())

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None


def raw_error(error: ApiError) -> bytes:
    """A whole HTTP/1.1 answer, for where no application is reached."""
    body = json.dumps(error.body()).encode()
    reason = {400: "Bad Request", 503: "Service Unavailable"}[error.status]
    head = {"content-type": "application/json", "content-length": str(len(body)), "connection": "close", **error.headers}
    lines = [f"HTTP/1.1 {error.status} {reason}", *(f"{name}: {value}" for name, value in head.items()), "", ""]
    return "\r\n".join(lines).encode() + body
