"""What stands before the routes, over raw sockets: keys, bodies, heads, connections, and answers in OpenAI's form whatever comes."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest

BODY = json.dumps({"model": "tiny", "prompt": "abc", "max_tokens": 3, "temperature": 0}).encode()
CHUNK = b"10000\r\n" + b"a" * 65536 + b"\r\n"
Start = Callable[..., contextlib.AbstractContextManager[Any]]


def head(path: str = "/v1/completions", *lines: str, method: str = "POST", kind: str = "application/json") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: a", f"Content-Type: {kind}", *lines, "", ""]).encode()


def whole(body: bytes = BODY, *lines: str) -> bytes:
    return head("/v1/completions", f"Content-Length: {len(body)}", *lines) + body


@contextlib.contextmanager
def connected(served: Any, seconds: float = 20) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", served.port), timeout=seconds) as connection:
        yield connection


def read(connection: socket.socket) -> tuple[int, dict[str, str], Any]:
    """One answer: status, headers, what its JSON holds (None without one)."""
    stream = connection.makefile("rb")
    line = stream.readline()
    assert line, "the connection was closed without an answer"
    headers = {}
    while (row := stream.readline().decode().strip()) != "":
        name, _, value = row.partition(": ")
        headers[name.lower()] = value
    body = stream.read(int(headers.get("content-length", 0)))
    return int(line.split()[1]), headers, json.loads(body) if body else None


def exchange(served: Any, raw: bytes) -> tuple[int, dict[str, str], Any]:
    with connected(served) as connection:
        connection.sendall(raw)
        return read(connection)


def is_error(answer: tuple[int, dict[str, str], Any], status: int) -> None:
    assert answer[0] == status, answer
    assert set(answer[2]["error"]) == {"message", "type", "param", "code"}
    assert answer[1]["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("status", "raw"),
    [
        (404, head("/v1/nothing", "Content-Length: 2") + b"{}"),
        (404, head("/v1/models/", method="GET")),
        (404, head("/docs", method="GET")),
        (405, head("/v1/completions", method="GET")),
        (405, head("/health", "Content-Length: 2") + b"{}"),
        (405, head("/metrics", method="DELETE")),
        (415, head("/v1/completions", "Content-Length: 2", kind="text/plain") + b"{}"),
        (415, head("/v1/completions", "Content-Length: 2", kind="application/json; charset=latin-1") + b"{}"),
        (415, whole(BODY, "Content-Encoding: gzip")),
        (415, b"POST /tokenize HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}"),
        (413, whole(b" " * (1 << 18) + BODY)),
        (413, head("/tokenize", "Content-Length: 99999999999999")),
        (413, head("/tokenize", "Content-Length: 300000", "Expect: 100-continue")),
        (413, head("/tokenize", "Transfer-Encoding: chunked") + CHUNK * 40),
        (400, b"\x00\x01\x02\r\n\r\n"),
        (400, b"GET /health HTTP/1.1\r\nno colon\r\n\r\n"),
        (400, b"GET /health HTTP/1.1\r\n\r\n"),
        (400, b"GET /" + b"a" * 70_000),
        (400, head("/tokenize", "Content-Length: -1")),
        (400, head("/tokenize", "Content-Length: 2", "Content-Length: 3") + b"{}"),
        (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(600)),
    ],
    ids=lambda value: repr(value)[:50],
)  # fmt: skip
def test_what_goes_wrong_is_told_in_openais_form(served: Any, status: int, raw: bytes) -> None:
    answer = exchange(served, raw)
    is_error(answer, status)
    if status == 405:
        assert answer[1]["allow"]


def test_head_is_get_without_a_body(served: Any) -> None:
    with connected(served) as connection:
        connection.sendall(b"HEAD /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        raw = b"".join(iter(lambda: connection.recv(4096), b""))
    assert raw.startswith(b"HTTP/1.1 200") and raw.endswith(b"\r\n\r\n")
    with connected(served) as connection:
        connection.sendall(b"HEAD /v1/completions HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        raw = b"".join(iter(lambda: connection.recv(4096), b""))
    assert raw.startswith(b"HTTP/1.1 405") and b"\r\nallow: POST\r\n" in raw and raw.endswith(b"\r\n\r\n")


def test_a_body_may_come_in_pieces_and_after_a_continue(served: Any) -> None:
    with connected(served) as connection:
        connection.sendall(head("/v1/completions", f"Content-Length: {len(BODY)}", "Expect: 100-continue"))
        assert connection.recv(100).startswith(b"HTTP/1.1 100")
        for byte in BODY:
            connection.sendall(bytes([byte]))
        assert read(connection)[0] == 200
        connection.sendall(whole() + whole())  # pipelined, on the same connection
        first = read(connection)
        assert first[0] == 200 and first[2]["choices"][0]["text"] == served.complete("abc", max_tokens=3)["choices"][0]["text"]


def test_every_answer_has_a_request_id(served: Any) -> None:
    ids = {exchange(served, raw)[1]["x-request-id"] for raw in (whole(), head("/nothing", method="GET"), head("/health", method="GET"))}
    assert len(ids) == 3


def test_the_key_covers_every_route_but_health(start: Start) -> None:
    with start(keys=("right-key", "second-key")) as served:
        for path in ("/v1/models", "/metrics", "/openapi.json", "/nothing", "/tokenize", "/health/", "//health", "/health/../metrics"):
            is_error(exchange(served, head(path, method="GET")), 401)
        is_error(exchange(served, whole()), 401)
        assert exchange(served, head("/health", method="GET"))[0] == 200
        for wrong in ("right-ke", "right-key2", "", "wrong", "RIGHT-KEY", "right-key second-key", "\u00fc"):
            raw = head("/v1/models", method="GET").replace(b"Host: a", b"Host: a\r\nAuthorization: Bearer " + wrong.encode("latin-1"))
            is_error(exchange(served, raw), 401)
        is_error(exchange(served, head("/v1/models", "Authorization: Basic right-key", method="GET")), 401)
        for keys in (("wrong", "right-key"), ("right-key", "wrong")):
            is_error(exchange(served, head("/v1/models", *(f"Authorization: Bearer {key}" for key in keys), method="GET")), 401)
        for right in ("Bearer right-key", "bearer second-key"):
            assert exchange(served, head("/v1/models", f"Authorization: {right}", method="GET"))[0] == 200
        assert exchange(served, head("/v1/models", method="GET"))[1]["www-authenticate"] == "Bearer"


def test_keys_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch, start: Start) -> None:
    """Every key is compared, by hmac.compare_digest, on digests of one length; also behind one that fits."""
    import gpt_kit.serving.guard as guard

    compared: list[tuple[int, int]] = []
    original = guard.hmac.compare_digest
    monkeypatch.setattr(guard.hmac, "compare_digest", lambda a, b: compared.append((len(a), len(b))) or original(a, b))
    with start(keys=("a", "a much longer key")) as served:
        for key in ("a", "b", "a much longer key, and more"):
            exchange(served, head("/v1/models", f"Authorization: Bearer {key}", method="GET"))
    assert compared == [(32, 32)] * 6


def test_slow_senders_are_cut_off(start: Start) -> None:
    """A body that does not come in time: 408. A head that does not: the connection ends. Neither reaches a route."""
    with start(body_seconds=0.3, header_seconds=0.3) as served, contextlib.ExitStack() as stack:
        body, empty, part = (stack.enter_context(connected(served)) for _ in range(3))
        body.sendall(head("/v1/completions", "Content-Length: 100") + b"{")
        part.sendall(b"GET /health HTTP/1.1\r\nHo")
        is_error(read(body), 408)
        for connection in (empty, part):
            with contextlib.suppress(ConnectionResetError):
                assert connection.recv(10) == b""
        again = stack.enter_context(connected(served))
        again.sendall(whole())
        assert read(again)[0] == 200
        again.sendall(b"POST /v1")  # the next head, which never ends
        with contextlib.suppress(ConnectionResetError):
            assert again.recv(10) == b""
        served.wait(lambda: not served.server.server_state.connections)


def test_a_reader_that_stalls_is_cut_off(start: Start) -> None:
    """It leaves megabytes of answers unread; its connection ends, and with it what was kept for it."""
    with start(write_seconds=0.4) as served, socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", served.port))
        body = json.dumps({"tokens": [65] * 60_000}).encode()
        connection.settimeout(20)
        with pytest.raises(ConnectionError):  # the server hangs up on it; what the kernel buffers is full long before
            for _ in range(1000):
                connection.sendall(head("/detokenize", f"Content-Length: {len(body)}") + body)
        served.wait(lambda: not served.server.server_state.connections)
        served.wait(lambda: served.service.traffic.num_active == 0)


def test_connections_are_bounded(start: Start) -> None:
    with start(max_connections=3) as served, contextlib.ExitStack() as stack:
        kept = [stack.enter_context(connected(served)) for _ in range(3)]
        served.wait(lambda: len(served.server.server_state.connections) == 3)
        with connected(served) as one_more:
            answer = read(one_more)
        is_error(answer, 503)
        assert answer[1]["retry-after"]
        kept[0].sendall(whole())
        assert read(kept[0])[0] == 200


def test_garbage_leaves_the_server_as_it_was(served: Any) -> None:
    """Requests cut short, bent, and reset half-way, 300 of them: each is answered below 500 or closed, and the same answer comes after."""
    before = served.complete("abc", max_tokens=20)["choices"]
    rng = random.Random(0)
    for number in range(300):
        raw = bytearray(whole())
        for _ in range(rng.randrange(1, 6)):
            raw[rng.randrange(len(raw))] = rng.randrange(256)
        if number % 3 == 0:
            raw = raw[: rng.randrange(1, len(raw))]
        with connected(served) as connection:
            connection.sendall(raw)
            if number % 5 == 0:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, not an end
                continue
            connection.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionResetError):
                line = connection.recv(12)
                assert not line or line.split()[1][:1] in (b"1", b"2", b"4"), (line, raw)
    assert served.complete("abc", max_tokens=20)["choices"] == before
    served.wait(lambda: served.engine.is_idle and served.service.worker.num_outstanding == 0)


def test_metrics_cannot_be_made_up_from_outside(served: Any) -> None:
    for number in range(20):
        exchange(served, head(f"/made-up-{number}", method="GET"))
        exchange(served, head("/v1/models/" + "x" * number, method="GET"))
    text = served.get("/metrics").text
    assert "made-up" not in text and 'route="other"' in text and 'route="/v1/models/{model_id:path}"' in text
    for name in ("gpt_kit_running", "gpt_kit_waiting", "gpt_kit_generated_tokens_total", "gpt_kit_time_to_first_token_seconds_count"):
        assert f"\n{name} " in text


def test_time_is_counted(served: Any) -> None:
    before = served.get("/metrics").text
    served.complete("abcd", max_tokens=5)
    after = served.get("/metrics").text

    def figure(text: str, name: str) -> float:
        return float(next(line.split()[-1] for line in text.splitlines() if line.startswith(name)))

    for name, more in (("gpt_kit_prompt_tokens_total", 4), ("gpt_kit_generated_tokens_total", 5)):
        assert figure(after, name) - figure(before, name) == more
