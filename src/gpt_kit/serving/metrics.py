"""Figures for Prometheus. Labels are route patterns and status codes: nobody can make up new ones from outside."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300)


class Metrics:
    """One registry for one server, so that two servers in a process do not meet."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        labels = ("route", "status")
        self._answers = Counter("gpt_kit_requests", "Answers by route and status", labels, registry=self._registry)
        self._seconds = Histogram(
            "gpt_kit_request_seconds",
            "From a request's head to the end of its answer",
            ("route",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._first = Histogram(
            "gpt_kit_time_to_first_token_seconds", "From the queue to the first token", buckets=_SECONDS, registry=self._registry
        )
        self._prompt = Counter("gpt_kit_prompt_tokens", "Tokens read", registry=self._registry)
        self._new = Counter("gpt_kit_generated_tokens", "Tokens written", registry=self._registry)

    def watch(self, name: str, explanation: str, value: Callable[[], float]) -> None:
        """A figure that is asked for when it is told."""
        Gauge(f"gpt_kit_{name}", explanation, registry=self._registry).set_function(value)

    def count_answer(self, route: str, status: int, seconds: float) -> None:
        """One answer."""
        self._answers.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def count_first_token(self, seconds: float) -> None:
        """The first event of a request."""
        self._first.observe(seconds)

    def count_tokens(self, prompt: int = 0, new: int = 0) -> None:
        """Tokens read and written."""
        self._prompt.inc(prompt)
        self._new.inc(new)

    def text(self) -> bytes:
        """All figures in Prometheus' text form."""
        return generate_latest(self._registry)
