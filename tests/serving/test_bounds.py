"""Every setting has its bounds, and what is not done is refused: 400, the setting as `param`, and no memory or time spent on it."""

from __future__ import annotations

import json
import time
import tracemalloc
from typing import Any

import pytest

from gpt_kit.serving.requests import ChatBody, CompletionBody

HUGE = 10**400
MESSAGES = [{"role": "user", "content": "a"}]
SHARED = [
    ("n", 10**9), ("n", HUGE), ("n", 0), ("n", True), ("n", "2"), ("n", 1.0),
    ("temperature", float("nan")), ("temperature", float("inf")), ("temperature", -0.1), ("temperature", 2.1), ("temperature", HUGE),
    ("temperature", "1"), ("temperature", True), ("top_p", 0), ("top_p", 1.1), ("top_k", -1), ("top_k", HUGE), ("min_p", 2),
    ("repetition_penalty", 0), ("repetition_penalty", 1e300), ("seed", -1), ("seed", 2**63), ("seed", 0.5),
    ("stop", ""), ("stop", ["a"] * 5), ("stop", [""]), ("stop", "a" * 1001), ("stop", 5),
    ("logit_bias", {"a": 1}), ("logit_bias", {"1": 101}), ("logit_bias", {"1": float("nan")}), ("logit_bias", {"259": 1}),
    ("logit_bias", {"-1": 1}), ("logit_bias", {"٣": 1}), ("logit_bias", [1]), ("logit_bias", {str(i): 0 for i in range(1025)}),
    ("stream", "yes"), ("stream_options", {"include_usage": True}), ("frequency_penalty", 0.5), ("presence_penalty", -1), ("user", "me"),
    ("temprature", 1), ("", 1), ("\ud800", 1), ("model", None), ("model", 5), ("model", ""), ("max_tokens", 10**9), ("max_tokens", -1),
]  # fmt: skip
COMPLETIONS = [
    ("prompt", []), ("prompt", [[]]), ("prompt", ["a", 1]), ("prompt", [1, "a"]), ("prompt", [-1]), ("prompt", [259]), ("prompt", [2**40]),
    ("prompt", [True]), ("prompt", [1.5]), ("prompt", {"a": 1}), ("prompt", ["a"] * 129), ("prompt", [[1]] * 129), ("prompt", [[[1]]]),
    ("prompt", "a" * 96), ("prompt", "a" * 100_000), ("prompt", [1] * 20_000), ("prompt", [1] * 70_000), ("max_tokens", 96),
    ("logprobs", 6), ("logprobs", True), ("logprobs", -1), ("echo", 1), ("best_of", 2), ("suffix", "end"), ("max_completion_tokens", 5),
    ("messages", MESSAGES), ("top_logprobs", 2),
]  # fmt: skip
CHATS = [
    ("messages", []), ("messages", "hi"), ("messages[0]", [5]), ("messages[0].role", [{}]), ("messages[0].role", [{"role": "tool"}]),
    ("messages[0].content", [{"role": "user", "content": None}]), ("messages[0].content", [{"role": "user", "content": []}]),
    ("messages[0].content", [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://a"}}]}]),
    ("messages[0].name", [{"role": "user", "content": "a", "name": "b"}]), ("messages", [{"role": "assistant", "content": "a"}]),
    ("messages", [*MESSAGES, *MESSAGES]), ("messages", [{"role": "user", "content": "a" * 100}]), ("messages", MESSAGES * 4097),
    ("messages[1].tool_calls", [*MESSAGES, {"role": "assistant", "content": "a", "tool_calls": [{"id": "1"}]}]),
    ("top_logprobs", 21), ("top_logprobs", 2), ("logprobs", 1), ("max_completion_tokens", 0), ("max_completion_tokens", 96),
    ("tools", [{"type": "function"}]), ("tool_choice", "auto"), ("response_format", {"type": "json_object"}), ("store", True),
    ("reasoning_effort", "high"), ("prompt", "a"), ("echo", True),
]  # fmt: skip


def refusal(served: Any, path: str, body: Any) -> dict[str, Any]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = served.post(path, None, content=raw, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["type"] == "invalid_request_error" and error["message"]
    assert len(error["message"]) < 600
    return error


@pytest.mark.parametrize(("param", "value"), [*SHARED, *COMPLETIONS], ids=lambda value: ascii(value)[:40])
def test_completions_refuse_what_is_out_of_bounds(served: Any, param: str, value: Any) -> None:
    error = refusal(served, "/v1/completions", {"model": "tiny", "prompt": "a", param: value})
    assert error["param"] == (param or None if param != "\ud800" else "\ufffd")


@pytest.mark.parametrize(("param", "value"), [*SHARED, *CHATS], ids=lambda value: ascii(value)[:40])
def test_chats_refuse_what_is_out_of_bounds(served: Any, param: str, value: Any) -> None:
    name = "messages" if param.startswith("messages") else param
    error = refusal(served, "/v1/chat/completions", {"model": "tiny", "messages": MESSAGES, name: value})
    assert error["param"] == (param or None if param != "\ud800" else "\ufffd")


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b"null", b"5", b'"a"', b"", b"\xff", b"[" * 100_000, b"9" * 5000, b'{"a":1e999}'], ids=lambda b: str(b[:9])
)
def test_what_is_no_request_is_refused(served: Any, body: bytes) -> None:
    for path in ("/v1/completions", "/v1/chat/completions", "/tokenize", "/detokenize"):
        refusal(served, path, body)


def test_settings_that_ask_for_nothing_are_taken(served: Any) -> None:
    """Frameworks send defaults along; null, and what would be done anyway, ask for nothing."""
    neutral = {"best_of": 1, "suffix": None, "presence_penalty": 0, "frequency_penalty": 0.0, "user": None, "n": None, "stop": None}
    assert len(served.complete("abc", max_tokens=3, **neutral)["choices"]) == 1
    for name, values in CompletionBody.UNSUPPORTED.items():
        for value in (*values, None):
            CompletionBody.model_validate({"model": "m", name: value})
    for name, values in ChatBody.UNSUPPORTED.items():
        for value in (*values, None):
            ChatBody.model_validate({"model": "m", "messages": MESSAGES, name: value})


def test_every_setting_of_openai_is_known() -> None:
    """Done or refused by name: none of the client's own settings is merely 'unknown'."""
    from openai.types import completion_create_params as completions
    from openai.types.chat import completion_create_params as chats

    for body, params in ((CompletionBody, completions.CompletionCreateParamsBase), (ChatBody, chats.CompletionCreateParamsBase)):
        names = {*params.__annotations__, "stream"}
        assert names <= {*body.model_fields, *body.UNSUPPORTED}, names - {*body.model_fields, *body.UNSUPPORTED}


@pytest.mark.parametrize(
    "body",
    [
        {"logit_bias": {f"x{i}": "a" for i in range(20_000)}},
        {"prompt": [1] * 80_000 + ["x"]},
        {"prompt": [[]] * 80_000},
        {"stop": [5] * 80_000},
        {f"x{i}": 1 for i in range(20_000)},
        {"n": 10**9, "max_tokens": 10**9},
    ],
    ids=lambda body: str(body)[:24],
)
def test_refusing_costs_no_memory_and_little_time(body: dict[str, Any]) -> None:
    """One error is made, not one for each of 80,000 items: less than 2 MB, and less than 0.3 s of processor time."""
    body = {"model": "m", **body}
    tracemalloc.start()
    with pytest.raises(ValueError) as refused:
        CompletionBody.model_validate(body)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2e6 and len(refused.value.errors()) < 9
    started = time.process_time()
    with pytest.raises(ValueError):
        CompletionBody.model_validate(body)
    assert time.process_time() - started < 0.3
