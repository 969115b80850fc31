"""The server's life: bind, serve, and after SIGTERM or Ctrl-C finish what is running before it goes.

While it drains the port stays open and new requests are answered by 503, so that a load balancer sees /health fail and turns elsewhere.
"""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import logging
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import uvicorn

from gpt_kit.errors import ConfigError, DataError, InputError
from gpt_kit.generation.engine import Engine
from gpt_kit.model import GPTModel
from gpt_kit.serving.app import Service, create_app
from gpt_kit.serving.connection import BoundedConnection
from gpt_kit.serving.errors import ApiError
from gpt_kit.serving.guard import Guard, Traffic
from gpt_kit.serving.limits import ServerLimits
from gpt_kit.serving.metrics import Metrics
from gpt_kit.serving.planning import Planner
from gpt_kit.serving.worker import Worker
from gpt_kit.tokenizers import Tokenizer

logger = logging.getLogger("uvicorn.error")
SECONDS_TO_LET_GO = 2
"""For connections to close once nothing runs any more, or once their time is over."""


def build_service(engine: Engine, model: GPTModel, tokenizer: Tokenizer, name: str, limits: ServerLimits) -> Service:
    """Everything that the routes need, for one model."""
    planner = Planner(
        tokenizer=tokenizer,
        vocab_size=model.config.vocab_size,
        context=model.config.max_position_embeddings,
        max_choices=limits.max_outstanding,
    )
    worker = Worker(engine, slots=limits.slots, max_outstanding=limits.max_outstanding)
    return Service(name=name, planner=planner, worker=worker, metrics=Metrics(), traffic=Traffic())


class DrainingServer(uvicorn.Server):
    """uvicorn with two more states: draining after the first signal, letting go when nothing runs or `drain_seconds` are over."""

    def __init__(self, service: Service, limits: ServerLimits, keys: Sequence[str] = ()) -> None:
        guard = Guard(create_app(service), limits, service.metrics, service.traffic, keys)
        connection = functools.partial(BoundedConnection, limits)
        config = uvicorn.Config(
            guard,
            http=connection,  # type: ignore[arg-type]
            ws="none",
            lifespan="on",
            server_header=False,
            timeout_keep_alive=limits.keep_alive_seconds,
            timeout_graceful_shutdown=SECONDS_TO_LET_GO,
        )
        super().__init__(config)
        self._traffic, self._worker, self._drain_seconds = service.traffic, service.worker, limits.drain_seconds
        self._draining_since = 0.0

    def drain(self) -> None:
        """Take no new requests, and leave when those that run are answered."""
        self._traffic.is_draining = True
        self._draining_since = time.monotonic()
        logger.info("finishing %d requests, then stopping; once more to stop at once", self._traffic.num_active)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal asks, the second one ends it."""
        del sig, frame
        if self._traffic.is_draining:
            self.should_exit = self.force_exit = True
        else:
            self.drain()

    async def on_tick(self, counter: int) -> bool:
        """As uvicorn, ten times a second."""
        if self._traffic.is_draining:
            if time.monotonic() - self._draining_since > self._drain_seconds:
                self._worker.give_up(ApiError(503, "the server has stopped before this was whole", code="draining"))
                self.should_exit = True
            self.should_exit = self.should_exit or not self._traffic.num_active
        return await super().on_tick(counter)


def serve(server: DrainingServer, listener: socket.socket, name: str) -> None:
    """Serve until a signal asks to stop."""
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    print_address = functools.partial(logger.info, "%s is served: OpenAI's base_url is http://%s:%d/v1", name, shown, port)

    async def run() -> None:
        asyncio.get_running_loop().call_later(0, print_address)
        await server.serve(sockets=[listener])

    asyncio.run(run())


def bind(host: str, port: int) -> socket.socket:
    """A socket that is bound but not yet listening: nobody can connect before the model is there. Raises: InputError."""
    if not 0 <= port < 1 << 16:
        raise InputError(f"--port must be from 0 (any free one) to 65535; got {port}")
    listener = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        if listener is not None:
            listener.close()
        raise InputError(f"{host}:{port} cannot be listened on ({error}). Choose another --host or --port") from None
    return listener


def check_exposure(host: str, has_key: bool, is_forced: bool) -> None:
    """Raises: ConfigError for an address that others can reach, without a key."""
    if has_key or is_forced or _is_loopback(host):
        return
    raise ConfigError(
        f"--host {host} can be reached from other machines, and without a key anybody there could use this model. "
        "Give --api-key-file FILE, or --without-key if something in front checks who asks"
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def read_keys(path: Path) -> list[str]:
    """The keys in a file, one a line. Raises: DataError for a file without keys, or one with a key that no header can carry."""
    try:
        keys = path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: the API key cannot be read ({error})") from None
    if not keys or not all(key.isascii() and key.isprintable() for key in keys):
        raise DataError(f"{path}: expected a line for each API key, in ASCII; the file has {'other characters' if keys else 'none'}")
    return keys
