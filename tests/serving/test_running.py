"""The server's life: what it refuses to begin, and how it ends."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gpt_kit.cli import main
from gpt_kit.config import ModelConfig
from gpt_kit.errors import ConfigError, DataError, InputError
from gpt_kit.model import GPTModel
from gpt_kit.serving.limits import ServerLimits
from gpt_kit.serving.running import bind, check_exposure, read_keys
from gpt_kit.tokenizers import Tokenizer

Start = Callable[..., contextlib.AbstractContextManager[Any]]
REQUEST = {"model": "tiny", "prompt": "abc", "temperature": 0, "stream": True, "stream_options": {"include_usage": True}}


def chunks_of(lines: Any) -> list[Any]:
    return [json.loads(line[6:]) if line != "data: [DONE]" else None for line in lines if line]


def test_draining_finishes_what_runs_and_what_waits(start: Start) -> None:
    """One slot: one request runs, one waits. Both are answered whole; others are sent away meanwhile, and /health says so."""
    body = {**REQUEST, "max_tokens": 60, "logit_bias": {str(token): -100 for token in range(128, 259)}}
    with start(slots=1, queue=4, pause_seconds=0.01) as served, httpx2.Client(timeout=30) as client:
        expected = served.complete("abc", **{name: body[name] for name in ("max_tokens", "logit_bias")})["choices"][0]["text"]
        waiting: list[str] = []
        with client.stream("POST", served.url + "/v1/completions", json=body) as running:
            lines = running.iter_lines()
            first = next(lines)
            whole = {**body, "stream": False, "stream_options": None}
            thread = threading.Thread(target=lambda: waiting.append(served.post("/v1/completions", whole).text))
            thread.start()
            served.wait(lambda: served.service.worker.num_outstanding == 2)
            served.server.handle_exit(signal.SIGTERM, None)
            assert served.get("/health").status_code == 503
            assert served.get("/metrics").status_code == 200
            refused = served.post("/v1/completions", body)
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "draining") and refused.headers["retry-after"]
            *chunks, usage, done = chunks_of([first, *lines])
        thread.join(timeout=30)
        assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == expected == json.loads(waiting[0])["choices"][0]["text"]
        assert done is None and usage["usage"]["completion_tokens"] == 60
        served.wait(lambda: served.server.should_exit)


def test_draining_ends_when_its_time_is_over(start: Start) -> None:
    with start(slots=1, pause_seconds=0.1, drain_seconds=0.2) as served, httpx2.Client(timeout=30) as client:
        body = {**REQUEST, "max_tokens": 90, "logit_bias": {str(token): -100 for token in range(128, 259)}}
        with client.stream("POST", served.url + "/v1/completions", json=body) as running:
            lines = running.iter_lines()
            next(lines)
            served.server.handle_exit(signal.SIGTERM, None)
            assert chunks_of(lines)[-1]["error"]["code"] == "draining", "it was broken off, and says so"
        served.wait(lambda: served.server.should_exit and served.engine.is_idle)


@pytest.fixture(scope="module")
def long_model(
    random_model: Callable[..., GPTModel], tiny_config: Callable[..., ModelConfig], tokenizer: Tokenizer, tmp_path_factory: Any
) -> Path:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    random_model(tiny_config(vocab_size=tokenizer.vocab_size, max_position_embeddings=2000)).save_pretrained(folder)
    tokenizer.save(folder)
    return folder


@pytest.mark.parametrize("words", [[], ["--int8"]], ids=["float32", "int8"])
def test_sigterm_ends_the_command_after_its_answers(long_model: Path, words: list[str]) -> None:
    """`gpt-kit serve` as a process: a stream of 1,500 tokens that runs when SIGTERM comes is whole, and the exit code is 0."""
    command = [sys.executable, "-m", "gpt_kit", "serve", str(long_model), "--port", "0", "--device", "cpu", *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env={**os.environ}) as process:
        assert process.stderr is not None
        try:
            url = next(match[1] for line in process.stderr if (match := re.search(r"base_url is (http\S+)/v1", line)))
            body = {**REQUEST, "max_tokens": 1500, "logit_bias": {str(token): -100 for token in range(128, 259)}}
            with httpx2.Client(timeout=60) as client, client.stream("POST", url + "/v1/completions", json=body) as running:
                lines = running.iter_lines()
                next(lines)
                process.send_signal(signal.SIGTERM)
                *_, usage, done = chunks_of(lines)
            assert done is None and usage["usage"]["completion_tokens"] == 1500
            assert process.wait(timeout=30) == 0
        finally:
            process.kill()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost"])
def test_loopback_needs_no_key(host: str) -> None:
    check_exposure(host, has_key=False, is_forced=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.0.1", "example.com", "::ffff:10.0.0.1"])
def test_other_addresses_need_a_key_or_a_word(host: str) -> None:
    with pytest.raises(ConfigError, match="--api-key-file"):
        check_exposure(host, has_key=False, is_forced=False)
    check_exposure(host, has_key=True, is_forced=False)
    check_exposure(host, has_key=False, is_forced=True)


def test_the_command_refuses_before_it_loads_anything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").write_text("\n")
    taken = bind("127.0.0.1", 0)
    taken.listen()
    missing = str(tmp_path / "missing")
    for words, said in (
        (["--host", "0.0.0.0"], "--without-key"),
        (["--api-key-file", str(tmp_path / "empty")], "a line for each API key"),
        (["--slots", "0"], "slots must be 1 or more"),
        (["--body-seconds", "nan"], "body_seconds must be above 0"),
    ):
        assert main(["serve", missing, *words]) == 2
        assert said in capsys.readouterr().err
    with pytest.raises(InputError, match="Choose another --host or --port"):
        bind("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(InputError, match="from 0"):
        bind("127.0.0.1", 70_000)
    taken.close()


def test_a_bound_port_refuses_connections_until_the_model_is_there() -> None:
    listener = bind("127.0.0.1", 0)
    with pytest.raises(ConnectionRefusedError), socket.create_connection(listener.getsockname()[:2], timeout=5):
        pass
    listener.close()


def test_keys_are_read_one_a_line(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("first-key\n\n  second-key \n")
    assert read_keys(tmp_path / "keys") == ["first-key", "second-key"]
    for content in (b"", b"\xff", "schlüssel".encode(), b"a\x00b"):
        (tmp_path / "keys").write_bytes(content)
        with pytest.raises(DataError):
            read_keys(tmp_path / "keys")
    with pytest.raises(DataError, match="cannot be read"):
        read_keys(tmp_path / "nothing")


def test_all_limits_are_checked_at_once() -> None:
    with pytest.raises(ConfigError, match=r"(?s)slots.*queue.*drain_seconds"):
        ServerLimits(slots=0, queue=-1, drain_seconds=float("inf"))


def test_without_the_extra_the_command_says_so() -> None:
    """In a process where fastapi cannot be imported."""
    code = "import sys; sys.modules['fastapi'] = None; from gpt_kit.cli import main; sys.exit(main(['serve', 'gpt2']))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.returncode == 2 and "pip install 'gpt-kit[serve]'" in found.stderr and found.stderr.count("\n") == 1
