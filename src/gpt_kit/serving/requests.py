"""Bodies of requests: OpenAI's names, each value with its type and its bounds.

Nothing is ignored. A setting that OpenAI knows and this server does not is refused, unless its value asks for nothing (null, or what
would be done anyway); a name that nobody knows is refused too. Values are taken as they are: "5" is no number, true is no 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from gpt_kit.config.suggest import did_you_mean
from gpt_kit.serving.errors import ApiError
from gpt_kit.tokenizers import Message
from gpt_kit.tokenizers.base import well_formed

MAX_PROMPTS = 128
MAX_CHOICES = 128
MAX_MESSAGES = 4096
MAX_IDS = 1 << 16
MAX_BIASES = 1024
MAX_STOP_CHARACTERS = 1000

_NO_PENALTY = {"frequency_penalty": (0, 0.0), "presence_penalty": (0, 0.0)}
_COMPLETION_UNSUPPORTED = {**_NO_PENALTY, "best_of": (1,), "suffix": ("",), "user": ()}
_CHAT_UNSUPPORTED = {
    **_NO_PENALTY, "audio": (), "function_call": ("none",), "functions": ([],), "metadata": ({},), "modalities": (["text"],),
    "moderation": (), "parallel_tool_calls": (), "prediction": (), "prompt_cache_key": (), "prompt_cache_options": (),
    "prompt_cache_retention": (), "reasoning_effort": ("none",), "response_format": ({"type": "text"},), "safety_identifier": (),
    "service_tier": ("auto", "default"), "store": (False,), "tool_choice": ("none",), "tools": ([],), "user": (), "verbosity": (),
    "web_search_options": (),
}  # fmt: skip
_MESSAGE_UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "annotations": ([],),
    "audio": (),
    "function_call": (),
    "name": (),
    "refusal": (),
    "tool_calls": ([],),
}

Name = Annotated[str, Field(min_length=1, max_length=512)]
Id = Annotated[int, Field(ge=0, le=2**31 - 1)]
Ids = Annotated[list[Id], Field(min_length=1, max_length=MAX_IDS, fail_fast=True)]
StopString = Annotated[str, Field(min_length=1, max_length=MAX_STOP_CHARACTERS)]
Bias = Annotated[float, Field(ge=-100, le=100)]


def _few_biases(value: Any) -> Any:
    """Counted before each is looked at: an error for every one of 100,000 takes seconds."""
    if isinstance(value, dict) and len(value) > MAX_BIASES:
        raise _problem("", f"at most {MAX_BIASES:,} token ids can have a bias; got {len(value):,}")
    return value


Biases = Annotated[dict[Annotated[str, Field(pattern=r"^[0-9]{1,9}\z")], Bias], Field(max_length=MAX_BIASES), BeforeValidator(_few_biases)]


class Body(BaseModel):
    """What every body has in common."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
    UNSUPPORTED: ClassVar[dict[str, tuple[Any, ...]]] = {}
    """Names that OpenAI knows -> values that ask for nothing; null always asks for nothing."""

    @model_validator(mode="before")
    @classmethod
    def _refuse_what_would_be_ignored(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        kept = {}
        for name, value in data.items():
            if name in cls.model_fields:
                kept[name] = value
            elif name not in cls.UNSUPPORTED:
                raise _problem(name, f"unknown setting {well_formed(name)[:80]!r}{did_you_mean(name[:80], cls.model_fields)}")
            elif value is not None and not any(type(value) is type(other) and value == other for other in cls.UNSUPPORTED[name]):
                raise _problem(name, f"{name} is not supported by this server: leave it out")
        return kept


class StreamOptions(Body):
    """How a stream is told."""

    UNSUPPORTED = {"include_obfuscation": (False,)}
    include_usage: bool | None = None
    """A last chunk that tells the number of tokens."""


class GenerationBody(Body):
    """The settings that completions and chats share."""

    model: Name
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    """Choices for each prompt; choice i is drawn with seed + i."""
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    """1 where it is not given, as OpenAI has it; 0 is greedy."""
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    """Not OpenAI's: only the k most probable tokens; 0 means all."""
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    """Not OpenAI's: only tokens at least this share as probable as the most probable one."""
    repetition_penalty: Annotated[float, Field(ge=0.01, le=100)] | None = None
    """Not OpenAI's: above 1 makes tokens that already occur less probable."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    """The same seed gives the same text."""
    stop: StopString | Annotated[list[StopString], Field(max_length=4, fail_fast=True)] | None = None
    """The text ends before the first of these."""
    logit_bias: Biases | None = None
    """Token id -> what is added to its logit."""
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @model_validator(mode="after")
    def _options_need_a_stream(self) -> GenerationBody:
        if self.stream_options is not None and not self.stream:
            raise _problem("stream_options", "stream_options is for streams: it needs stream to be true")
        return self

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """The stop strings, however they were given."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def wants_usage_chunk(self) -> bool:
        """Whether a stream ends with the number of tokens."""
        return bool(self.stream_options and self.stream_options.include_usage)


class CompletionBody(GenerationBody):
    """POST /v1/completions."""

    UNSUPPORTED = _COMPLETION_UNSUPPORTED
    prompt: (
        str
        | Annotated[list[str], Field(min_length=1, max_length=MAX_PROMPTS, fail_fast=True)]
        | Ids
        | Annotated[list[Ids], Field(min_length=1, max_length=MAX_PROMPTS, fail_fast=True)]
        | None
    ) = None
    """A text, texts, ids, or lists of ids; an empty text begins a new document."""
    max_tokens: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    """Most tokens to write; 16 where it is not given."""
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    """Log-probabilities of the tokens, with so many most probable ones beside each."""
    echo: bool | None = None
    """The prompt comes before the text, and its log-probabilities with it."""

    @property
    def prompts(self) -> Sequence[str | list[int]]:
        """The prompts, however they were given."""
        prompt = self.prompt
        if prompt is None:
            return [""]
        if isinstance(prompt, str) or isinstance(prompt[0], int):
            return [prompt]
        return prompt


class TextPart(Body):
    """One part of a message that is given in parts."""

    type: Literal["text"]
    text: str


class MessageBody(Body):
    """What one side says. A developer's message is a system message."""

    UNSUPPORTED = _MESSAGE_UNSUPPORTED
    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[TextPart], Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)]

    def message(self) -> Message:
        """As the chat format takes it."""
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return Message("system" if self.role == "developer" else self.role, text)


Messages = Annotated[list[MessageBody], Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)]


class ChatBody(GenerationBody):
    """POST /v1/chat/completions."""

    UNSUPPORTED = _CHAT_UNSUPPORTED
    messages: Messages
    max_completion_tokens: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    """Most tokens to write; as many as the context has room for where it is not given."""
    max_tokens: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    """The older name of max_completion_tokens."""
    logprobs: bool | None = None
    """Log-probabilities of the tokens."""
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    """So many most probable tokens beside each; needs logprobs."""

    @model_validator(mode="after")
    def _settings_agree(self) -> ChatBody:
        if self.top_logprobs is not None and not self.logprobs:
            raise _problem("top_logprobs", "top_logprobs needs logprobs to be true")
        if None not in (self.max_tokens, self.max_completion_tokens) and self.max_tokens != self.max_completion_tokens:
            raise _problem("max_tokens", "max_tokens is the older name of max_completion_tokens, and the two differ: give one of them")
        return self


class TokenizeBody(Body):
    """POST /tokenize: a text, or a conversation as the model reads it."""

    model: Name | None = None
    prompt: str | None = None
    messages: Messages | None = None
    add_generation_prompt: bool | None = None
    """With messages: ready for the assistant's next answer, which is the default."""

    @model_validator(mode="after")
    def _one_of_two(self) -> TokenizeBody:
        if (self.prompt is None) == (self.messages is None):
            raise _problem("prompt", "give either prompt, a text, or messages")
        if self.add_generation_prompt is not None and self.messages is None:
            raise _problem("add_generation_prompt", "add_generation_prompt is for messages")
        return self


class DetokenizeBody(Body):
    """POST /detokenize."""

    model: Name | None = None
    tokens: Annotated[list[Id], Field(max_length=MAX_IDS, fail_fast=True)]


_EXPECTED = {
    "prompt": f"a text, a list of 1 to {MAX_PROMPTS} texts, a list of ids from 0 on, or a list of 1 to {MAX_PROMPTS} such lists",
    "stop": f"a text of 1 to {MAX_STOP_CHARACTERS} characters, or a list of at most 4 of them",
    "content": "a text, or a list of parts {'type': 'text', 'text': …}",
    "logit_bias": "token ids, written as digits, each with a number from -100 to 100",
}


def validation_error(errors: Sequence[Any]) -> ApiError:
    """The first of pydantic's `errors` in OpenAI's form: status 400, with the setting's name as `param`."""
    error = errors[0]
    if error["type"] == "json_invalid":
        return ApiError(400, f"the body is not valid JSON: {error['ctx']['error']}", code="invalid_json")
    path = list(error["loc"][1:])
    if error["type"] == "refused" and error["ctx"]["param"]:
        path.append(error["ctx"]["param"])
    param = ""
    for part in path:
        param += f"[{part}]" if isinstance(part, int) else f".{part}" if param else str(part)
        if part in _EXPECTED:
            break
    if error["type"] == "refused":
        return ApiError(400, error["msg"], param=param or None, code="invalid_value")
    field = param.rpartition(".")[2]
    got = "it is missing" if error["type"] == "missing" else f"got {_short(error['input'])}"
    expected = f"expected {_EXPECTED[field]}" if field in _EXPECTED else error["msg"][:1].lower() + error["msg"][1:]
    return ApiError(400, f"{param or 'the body'}: {expected}; {got}", param=param or None, code="invalid_value")


def _short(value: Any) -> str:
    """A value as it may stand in a message; what is long is told by its kind."""
    if isinstance(value, str | list | dict) and len(value) > 40:
        return f"a {type(value).__name__} of length {len(value):,}"
    if isinstance(value, int) and abs(value) >= 10**40:
        return "a number of more than 40 digits"
    return repr(value)[:200]


def _problem(param: str, message: str) -> PydanticCustomError:
    return PydanticCustomError("refused", "{message}", {"message": message, "param": well_formed(param)[:80]})
