"""Settings -> requests to the engine: prompts become ids, each choice gets its seed, and what cannot fit is refused before it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gpt_kit.errors import ConfigError, InputError
from gpt_kit.generation.request import Request
from gpt_kit.generation.sampling import Sampling
from gpt_kit.generation.streaming import encode_prompt
from gpt_kit.serving.choices import ChoiceText
from gpt_kit.serving.errors import ApiError
from gpt_kit.serving.requests import ChatBody, CompletionBody, GenerationBody, MessageBody
from gpt_kit.tokenizers import ASSISTANT, USER, Tokenizer, render_chat

COMPLETION_TOKENS = 16  # where max_tokens is not given: OpenAI's default


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one HTTP request asks of the engine: choice i is `requests[i]`, and `texts[i]` makes its text."""

    requests: list[Request]
    texts: list[ChoiceText]
    num_prompt_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Planner:
    """Plans for one model. Everything here may take a while for a long text: call it from a thread of its own."""

    tokenizer: Tokenizer
    vocab_size: int
    """Entries of the model's vocabulary; those that the tokenizer lacks are never drawn."""
    context: int
    """Positions of the model."""
    max_choices: int
    """Choices that can run or wait at all."""

    def completion(self, body: CompletionBody) -> Plan:
        """Raises: ApiError 400 that names the setting."""
        self._check_choices(len(body.prompts), body)
        prompts = [self._prompt_ids(prompt) for prompt in body.prompts]
        requests: list[Request] = []
        texts: list[ChoiceText] = []
        end = self.tokenizer.end_of_text_id
        for ids in prompts:
            room = self._room(ids, "prompt", needs_room=body.max_tokens != 0)
            wanted = min(COMPLETION_TOKENS, room) if body.max_tokens is None else self._at_most(room, body.max_tokens, "max_tokens", ids)
            requests += self._requests(
                body,
                ids,
                wanted,
                frozenset() if end is None else frozenset({end}),
                num_rivals=body.logprobs,
                score_prompt=bool(body.echo) and body.logprobs is not None,
            )
            texts += [ChoiceText(self.tokenizer, ids, stop=body.stop_strings, echo=bool(body.echo)) for _ in range(body.n or 1)]
        return Plan(requests=requests, texts=texts, num_prompt_tokens=sum(map(len, prompts)))

    def chat(self, body: ChatBody) -> Plan:
        """Raises: ApiError 400 that names the setting."""
        self._check_choices(1, body)
        ids = self.chat_ids(body.messages, add_generation_prompt=True)
        room = self._room(ids, "messages")
        name = "max_tokens" if body.max_completion_tokens is None else "max_completion_tokens"
        given = body.max_completion_tokens or body.max_tokens
        wanted = room if given is None else self._at_most(room, given, name, ids)
        special = self.tokenizer.special_tokens
        ends = frozenset({special[USER], special[ASSISTANT], *([] if (end := self.tokenizer.end_of_text_id) is None else [end])})
        requests = self._requests(body, ids, wanted, ends, num_rivals=(body.top_logprobs or 0) if body.logprobs else None)
        texts = [ChoiceText(self.tokenizer, ids, stop=body.stop_strings) for _ in requests]
        return Plan(requests=requests, texts=texts, num_prompt_tokens=len(ids))

    def chat_ids(self, messages: Sequence[MessageBody], *, add_generation_prompt: bool) -> list[int]:
        """A conversation as the model reads it. Raises: ApiError 400."""
        try:
            return render_chat(self.tokenizer, [message.message() for message in messages], add_generation_prompt).ids
        except InputError as error:
            raise ApiError(400, str(error), param="messages", code="invalid_value") from None

    def text_ids(self, text: str) -> list[int]:
        """A text as content. Raises: ApiError 400 where the vocabulary cannot spell it."""
        try:
            return self.tokenizer.encode(text)
        except InputError as error:
            raise ApiError(400, str(error), param="prompt", code="invalid_value") from None

    def text(self, ids: Sequence[int]) -> str:
        """The text of `ids`. Raises: ApiError 400 for one outside the vocabulary."""
        try:
            return self.tokenizer.decode(ids)
        except InputError as error:
            raise ApiError(400, str(error), param="tokens", code="invalid_value") from None

    def _prompt_ids(self, prompt: str | list[int]) -> list[int]:
        if isinstance(prompt, str):
            return self.text_ids(prompt) if prompt else encode_prompt("", self.tokenizer)
        known = min(self.vocab_size, self.tokenizer.vocab_size)
        if max(prompt) >= known:
            raise ApiError(
                400, f"prompt: id {max(prompt)} is not in the vocabulary of {known:,} entries", param="prompt", code="invalid_value"
            )
        return prompt

    def _check_choices(self, num_prompts: int, body: GenerationBody) -> None:
        wanted = num_prompts * (body.n or 1)
        if wanted > self.max_choices:
            raise ApiError(
                400,
                f"{num_prompts} prompts with n = {body.n or 1} make {wanted:,} choices; this server takes at most {self.max_choices:,}",
                param="prompt" if num_prompts > self.max_choices else "n",
                code="invalid_value",
            )

    def _room(self, ids: Sequence[int], param: str, needs_room: bool = True) -> int:
        """Tokens that fit behind `ids`."""
        room = self.context - len(ids)
        if room < needs_room:
            raise ApiError(
                400,
                f"{param}: {len(ids):,} tokens; this model's context has {self.context:,}, one of them for an answer. Shorten it",
                param=param,
                code="context_length_exceeded",
            )
        return room

    def _at_most(self, room: int, wanted: int, param: str, ids: Sequence[int]) -> int:
        if wanted > room:
            raise ApiError(
                400,
                f"{param}: {wanted:,} tokens after a prompt of {len(ids):,}; this model's context has {self.context:,}: at most {room:,}",
                param=param,
                code="context_length_exceeded",
            )
        return wanted

    def _requests(
        self,
        body: GenerationBody,
        ids: list[int],
        max_new_tokens: int,
        stop_ids: frozenset[int],
        num_rivals: int | None,
        score_prompt: bool = False,
    ) -> list[Request]:
        """One for each of `n` choices; choice i has seed + i."""
        sampling, bias = self._sampling(body), self._bias(body.logit_bias or {})
        return [
            Request(
                prompt=ids,
                max_new_tokens=max_new_tokens,
                sampling=sampling,
                seed=None if body.seed is None else (body.seed + i) % 2**63,
                stop_ids=stop_ids,
                bias=bias,
                num_rivals=num_rivals,
                score_prompt=score_prompt,
            )
            for i in range(body.n or 1)
        ]

    def _sampling(self, body: GenerationBody) -> Sampling:
        names = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
        given = {name: value for name in names if (value := getattr(body, name)) is not None}
        try:
            return Sampling(**given)
        except ConfigError as error:
            raise ApiError(400, str(error), code="invalid_value") from None

    def _bias(self, biases: Mapping[str, float]) -> dict[int, float]:
        for token in biases:
            if int(token) >= self.vocab_size:
                raise ApiError(
                    400,
                    f"logit_bias: id {token} is not in the vocabulary of {self.vocab_size:,} entries",
                    param="logit_bias",
                    code="invalid_value",
                )
        foreign = {token: float("-inf") for token in range(self.tokenizer.vocab_size, self.vocab_size)}
        return {int(token): value for token, value in biases.items()} | foreign
