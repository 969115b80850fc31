"""Before the application, in plain ASGI: the key, the kind of the body, its size and its time.

The body is read here, whole and within its bounds, and handed on as one message, so nothing behind this waits for a slow sender. What
comes after the body is passed through, so that a client's going is seen (which Starlette's BaseHTTPMiddleware would hide).
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from email.message import Message
from typing import TYPE_CHECKING

from gpt_kit.serving.errors import ApiError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send
    from starlette.types import Message as Event

    from gpt_kit.serving.limits import ServerLimits
    from gpt_kit.serving.metrics import Metrics

OPEN_PATHS = ("/health",)
"""Answered without a key."""
PATHS_WHILE_DRAINING = ("/health", "/metrics")
MAX_BUFFERED_BODIES = 256
"""Bodies of full length that may be in memory at once, in sum; above that 503."""
MAX_DISCARDED = 8
"""Of a body that is too long, so many times the limit are read before it is refused: a client that still sends hears no answer."""


@dataclass(slots=True)
class Traffic:
    """What the guard counts, and what it is told."""

    num_active: int = 0
    """Requests whose answer is not whole yet."""
    is_draining: bool = False
    """The server is about to stop: new requests are answered by 503."""


class Guard:
    """Wraps an ASGI application."""

    def __init__(self, app: ASGIApp, limits: ServerLimits, metrics: Metrics, traffic: Traffic, keys: Sequence[str] = ()) -> None:
        """`keys`: any one of them opens; none: no key is needed."""
        self.app, self._limits, self._metrics, self.traffic = app, limits, metrics, traffic
        self._keys = [_digest(key.encode()) for key in keys]
        self._buffered = 0  # bytes of bodies in memory

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        answer = _Answer(send)
        self.traffic.num_active += 1
        try:
            await self._handle(scope, receive, answer)
        finally:
            self.traffic.num_active -= 1
            route = getattr(scope.get("route"), "path", "other")  # the pattern: a stranger cannot make up labels
            self._metrics.count_answer(route, answer.status, time.monotonic() - answer.started_at)

    async def _handle(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        body = bytearray()
        try:
            try:
                self._check_key(scope)
                self._check_draining(scope)
                _check_kind(scope)
                await self._read(body, scope, receive)
            except ApiError as error:
                await send_error(error, scope, answer)
                return
            except _Gone:
                return
            await self.app(scope, _replayed(bytes(body), receive), answer)
        finally:
            self._buffered -= len(body)

    def _check_key(self, scope: Scope) -> None:
        if not self._keys or scope["path"] in OPEN_PATHS:
            return
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        scheme, _, key = (given[0] if len(given) == 1 else b"").partition(b" ")
        digest = _digest(key.strip())
        matches = [hmac.compare_digest(digest, known) for known in self._keys]  # all of them: time tells nothing
        if scheme.lower() != b"bearer" or not any(matches):
            said = "a wrong API key" if given else "no API key"
            raise ApiError(401, f"{said}: send the header Authorization: Bearer KEY", headers={"WWW-Authenticate": "Bearer"})

    def _check_draining(self, scope: Scope) -> None:
        if self.traffic.is_draining and scope["path"] not in PATHS_WHILE_DRAINING:
            raise ApiError(503, "the server is about to stop and takes no new requests", code="draining", headers={"Retry-After": "5"})

    async def _read(self, body: bytearray, scope: Scope, receive: Receive) -> None:
        """Fill `body`. Raises: ApiError 413, 408, or 503 when too much is in memory; _Gone when the client goes away before its end."""
        limit, stated, seen, more = self._limits.max_body_bytes, _header(scope, b"content-length"), 0, True
        too_long = ApiError(413, f"the body is longer than {limit:,} bytes, which is the most that this server takes")
        if stated.isdigit() and (int(stated) > MAX_DISCARDED * limit or (int(stated) > limit and _header(scope, b"expect"))):
            raise too_long
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                while more and seen <= MAX_DISCARDED * limit:
                    event = await receive()
                    if event["type"] == "http.disconnect":
                        raise _Gone
                    more = event.get("more_body", False)
                    seen += len(event.get("body", b""))
                    kept = event.get("body", b"")[: limit - len(body)]
                    body += kept
                    self._buffered += len(kept)
                    if self._buffered > MAX_BUFFERED_BODIES * limit:
                        raise ApiError(503, "too many long requests at once. Try again later", headers={"Retry-After": "1"})
        except TimeoutError:
            raise (too_long if seen > limit else ApiError(408, f"the body did not come within {self._limits.body_seconds:g} s")) from None
        if seen > limit:
            raise too_long


class _Answer:
    """`send`, which notes the status and gives every answer its request id."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 499  # as nginx writes it: the client went before there was one
        self.started_at = time.monotonic()

    async def __call__(self, event: Event) -> None:
        if event["type"] == "http.response.start":
            self.status = event["status"]
            event["headers"] = [*event.get("headers", ()), (b"x-request-id", f"req_{uuid.uuid4().hex}".encode())]
        await self._send(event)


class _Gone(Exception):
    """The client has gone."""


async def send_error(error: ApiError, scope: Scope, send: Send) -> None:
    """Answer by `error`, and close the connection: what is left of the body is not read."""
    body = json.dumps(error.body()).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), "connection": "close", **error.headers}
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": raw})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def _check_kind(scope: Scope) -> None:
    """Raises: ApiError 415 unless a body is JSON in UTF-8, as it is."""
    if scope["method"] not in ("POST", "PUT", "PATCH"):
        return
    kind = Message()
    kind["content-type"] = _header(scope, b"content-type")
    charset = kind.get_param("charset", "utf-8")
    if kind.get_content_type() != "application/json" or str(charset).lower() not in ("utf-8", "utf8"):
        raise ApiError(415, "the body has to be JSON in UTF-8: send the header Content-Type: application/json")
    if _header(scope, b"content-encoding") not in ("", "identity"):
        raise ApiError(415, "the body has to come as it is, without Content-Encoding")


def _header(scope: Scope, wanted: bytes) -> str:
    return next((value.decode("latin-1").strip() for name, value in scope["headers"] if name == wanted), "")


def _digest(key: bytes) -> bytes:
    """Equally long for all keys, so that comparing tells not even their length."""
    return hashlib.sha256(key).digest()


def _replayed(body: bytes, receive: Receive) -> Receive:
    """`receive` that begins with the whole body."""
    pending: list[Event] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Event:
        return pending.pop() if pending else await receive()

    return replay
