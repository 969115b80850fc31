"""Choices -> OpenAI's forms: a whole answer, and the chunks of a stream.

The forms of completions and chats differ in where the text stands and in how log-probabilities are written: completions have lists side
by side, chats a list of tokens with their bytes.
"""

from __future__ import annotations

import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gpt_kit.serving.choices import Delta, ScoredToken, spelled
from gpt_kit.tokenizers import Tokenizer

Json = dict[str, Any]
LOWEST = -9999.0
"""Stands for every lower log-probability, minus infinity among them, which JSON cannot write; OpenAI's documentation names it."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that were read and written."""

    prompt_tokens: int
    completion_tokens: int

    def form(self) -> Json:
        """As OpenAI writes it."""
        total = self.prompt_tokens + self.completion_tokens
        return {"prompt_tokens": self.prompt_tokens, "completion_tokens": self.completion_tokens, "total_tokens": total}


class AnswerForm(ABC):
    """The forms of one answer: its id, model and time are the same in every chunk."""

    kind: str
    chunk_kind: str
    prefix: str

    def __init__(self, model: str, tokenizer: Tokenizer, *, num_rivals: int | None = None, has_usage: bool = False) -> None:
        """`num_rivals`: log-probabilities are told, with so many rivals. `has_usage`: a stream tells the number of tokens."""
        self._tokenizer, self._num_rivals, self.has_usage = tokenizer, num_rivals, has_usage
        self._head: Json = {"id": f"{self.prefix}-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}

    def whole(self, choices: Sequence[Delta], usage: Usage) -> Json:
        """The answer as one object."""
        told = [self._choice(i, self._content(choice.text), choice) for i, choice in enumerate(choices)]
        return {**self._head, "object": self.kind, "choices": told, "usage": usage.form()}

    def first_chunks(self, num_choices: int) -> list[Json]:
        """What a stream begins with."""
        del num_choices
        return []

    def chunk(self, index: int, delta: Delta) -> Json:
        """What an event adds to one choice."""
        return self._chunk([self._choice(index, self._addition(delta.text), delta)])

    def usage_chunk(self, usage: Usage) -> Json:
        """The last chunk, where the number of tokens was asked for."""
        return {**self._chunk([]), "usage": usage.form()}

    def _chunk(self, choices: list[Json]) -> Json:
        return {**self._head, "object": self.chunk_kind, "choices": choices, **({"usage": None} if self.has_usage else {})}

    def _choice(self, index: int, content: Json, delta: Delta) -> Json:
        told = None if self._num_rivals is None else self._log_probabilities(delta.tokens, self._num_rivals)
        return {"index": index, **content, "logprobs": told, "finish_reason": delta.finish_reason}

    @abstractmethod
    def _content(self, text: str) -> Json: ...

    @abstractmethod
    def _addition(self, text: str) -> Json: ...

    @abstractmethod
    def _log_probabilities(self, tokens: Sequence[ScoredToken], num_rivals: int) -> Json: ...


class CompletionForm(AnswerForm):
    """/v1/completions."""

    kind = chunk_kind = "text_completion"
    prefix = "cmpl"

    def _content(self, text: str) -> Json:
        return {"text": text}

    _addition = _content

    def _log_probabilities(self, tokens: Sequence[ScoredToken], num_rivals: int) -> Json:
        return {
            "tokens": [self._spelled(token.token) for token in tokens],
            "token_logprobs": [_finite(token.log_probability) for token in tokens],
            "top_logprobs": [self._most_probable(token) for token in tokens] if num_rivals else None,
            "text_offset": [token.offset for token in tokens],
        }

    def _most_probable(self, token: ScoredToken) -> dict[str, float] | None:
        """The rivals, and the token itself; of two that are spelled alike, the more probable one."""
        if token.log_probability is None:
            return None
        told: dict[str, float] = {}
        for rival, value in (*token.rivals, (token.token, token.log_probability)):
            told.setdefault(self._spelled(rival), _lifted(value))
        return told

    def _spelled(self, token: int) -> str:
        return spelled(self._tokenizer, token, "bytes:")[0]


class ChatForm(AnswerForm):
    """/v1/chat/completions."""

    kind, chunk_kind, prefix = "chat.completion", "chat.completion.chunk", "chatcmpl"

    def first_chunks(self, num_choices: int) -> list[Json]:
        """Who speaks."""
        return [self._chunk([self._choice(i, {"delta": {"role": "assistant", "content": ""}}, Delta())]) for i in range(num_choices)]

    def _content(self, text: str) -> Json:
        return {"message": {"role": "assistant", "content": text, "refusal": None}}

    def _addition(self, text: str) -> Json:
        return {"delta": {"content": text} if text else {}}

    def _log_probabilities(self, tokens: Sequence[ScoredToken], num_rivals: int) -> Json:
        rows = [
            {
                **self._token(token.token, token.log_probability),
                "top_logprobs": [self._token(*rival) for rival in token.rivals[:num_rivals]],
            }
            for token in tokens
        ]
        return {"content": rows, "refusal": None}

    def _token(self, token: int, log_probability: float | None) -> Json:
        text, raw = spelled(self._tokenizer, token, "")
        return {"token": text, "logprob": _finite(log_probability), "bytes": raw}


def _finite(value: float | None) -> float | None:
    return None if value is None else _lifted(value)


def _lifted(value: float) -> float:
    return value if value > LOWEST else LOWEST
