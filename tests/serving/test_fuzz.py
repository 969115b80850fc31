"""Fuzzed by schemathesis from the server's own description: valid and invalid data, NUL among them, 200 examples an operation.

No answer is a 5xx, each has a documented status, kind and form; nothing hangs; and the same greedy answer comes afterwards.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance, status_code_conformance

EXAMPLES = 200
CHECKS = [not_a_server_error, content_type_conformance, response_schema_conformance, status_code_conformance]


@pytest.fixture(scope="module")
def calm(start: Callable[..., contextlib.AbstractContextManager[Any]]) -> Iterator[Any]:
    """A server that is the same afterwards."""
    with start(queue=200) as served:
        before = served.complete("abc", max_tokens=40, n=2)["choices"]
        yield served
        assert served.complete("abc", max_tokens=40, n=2)["choices"] == before
        served.wait(lambda: served.engine.is_idle and not served.service.worker.num_outstanding)


@pytest.fixture(scope="module")
def described(calm: Any) -> Any:
    return schemathesis.openapi.from_url(calm.url + "/openapi.json")


OPERATIONS = [
    ("POST", "/v1/completions"), ("POST", "/v1/chat/completions"), ("POST", "/tokenize"), ("POST", "/detokenize"),
    ("GET", "/v1/models"), ("GET", "/v1/models/{model_id}"), ("GET", "/health"), ("GET", "/metrics"),
]  # fmt: skip


def test_all_operations_are_listed_here(described: Any) -> None:
    found = {(operation.ok().method.upper(), operation.ok().path) for operation in described.get_all_operations()}
    assert found == set(OPERATIONS)


@pytest.mark.slow
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_no_example_breaks_it(described: Any, method: str, path: str, mode: GenerationMode) -> None:
    """Where a model is named, every second one is ours: otherwise 404 would be all that is seen."""
    operation = described[path][method]
    if mode is GenerationMode.NEGATIVE and not operation.body:
        pytest.skip("takes nothing that could be invalid")
    statuses = set()

    @hypothesis.settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode), is_ours=st.booleans())
    def check(case: Any, is_ours: bool) -> None:
        if is_ours and isinstance(case.body, dict) and "model" in case.body:
            case.body["model"] = "tiny"
        answer = case.call(timeout=20)
        statuses.add(answer.status_code)
        case.validate_response(answer, checks=CHECKS)

    check()
    if method == "POST":
        assert {200 if mode is GenerationMode.POSITIVE else 400} <= statuses, statuses
