"""A real server in a thread, with a tiny random model of bytes that also knows the chat format."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import openai
import pytest

from gpt_kit.config import ModelConfig
from gpt_kit.generation.engine import Engine
from gpt_kit.model import GPTModel
from gpt_kit.serving.limits import ServerLimits
from gpt_kit.serving.running import DrainingServer, bind, build_service
from gpt_kit.tokenizers import Tokenizer, chat_tokenizer
from gpt_kit.tokenizers.simple import ByteTokenizer

CONTEXT = 96


class Served:
    """A server that runs, and ways to ask it."""

    def __init__(self, server: DrainingServer, service: Any, engine: Engine, port: int) -> None:
        self.server, self.service, self.engine, self.port = server, service, engine, port
        self.url = f"http://127.0.0.1:{port}"

    def post(self, path: str, body: Any = None, **options: Any) -> httpx2.Response:
        with httpx2.Client(timeout=60, verify=False) as client:
            return client.post(self.url + path, json=body, **options)

    def get(self, path: str, **options: Any) -> httpx2.Response:
        with httpx2.Client(timeout=60, verify=False) as client:
            return client.get(self.url + path, **options)

    def complete(self, prompt: Any = "abc", **settings: Any) -> dict[str, Any]:
        answer = self.post("/v1/completions", {"model": "tiny", "prompt": prompt, "temperature": 0, **settings})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def wait(self, condition: Callable[[], bool], seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "it did not come to pass"
            time.sleep(0.005)

    @contextlib.contextmanager
    def openai(self, **options: Any) -> Iterator[openai.OpenAI]:
        with openai.OpenAI(base_url=self.url + "/v1", api_key="none", max_retries=0, **options) as client:
            yield client


class PacedEngine(Engine):
    """The engine, with a pause before every step: long enough for somebody to go away in between."""

    pause_seconds = 0.0
    num_steps = 0

    def step(self) -> Any:
        self.num_steps += 1
        time.sleep(self.pause_seconds)
        return super().step()


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return chat_tokenizer(ByteTokenizer())


@pytest.fixture(scope="session")
def model(tokenizer: Tokenizer, random_model: Callable[..., GPTModel], tiny_config: Callable[..., ModelConfig]) -> GPTModel:
    return random_model(tiny_config(vocab_size=tokenizer.vocab_size, max_position_embeddings=CONTEXT))


@pytest.fixture(scope="session")
def start(start_with: Callable[..., Any], tokenizer: Tokenizer) -> Callable[..., contextlib.AbstractContextManager[Served]]:
    """`with start(slots=…, keys=…) as served:` a server with these limits."""
    return functools.partial(start_with, tokenizer)


@pytest.fixture(scope="session")
def start_with(model: GPTModel) -> Callable[..., contextlib.AbstractContextManager[Served]]:
    """The same, with a tokenizer of one's own."""

    @contextlib.contextmanager
    def started(tokenizer: Tokenizer, *, keys: tuple[str, ...] = (), pause_seconds: float = 0.0, **limits: Any) -> Iterator[Served]:
        bounds = ServerLimits(**limits)
        engine = PacedEngine(model, slots=bounds.slots)
        engine.pause_seconds = pause_seconds
        service = build_service(engine, model, tokenizer, "tiny", bounds)
        server = DrainingServer(service, bounds, keys)
        listener = bind("127.0.0.1", 0)
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
        thread.start()
        served = Served(server, service, engine, listener.getsockname()[1])
        served.wait(lambda: server.started)
        try:
            yield served
        finally:
            server.should_exit = True
            thread.join(timeout=30)
            assert not thread.is_alive(), "the server does not stop"

    return started


@pytest.fixture(scope="module")
def served(start: Callable[..., contextlib.AbstractContextManager[Served]]) -> Iterator[Served]:
    with start() as served:
        yield served
