"""A chat: questions and answers in turn, of which the model always sees as much as fits its context.

When less than a quarter of the context (or `max_new_tokens`, if that is less) is left for the answer, the oldest exchanges drop out;
a system message stays. An answer never goes past the context, so what the model writes is always a continuation of a whole prompt.
One engine writes all answers: what was said before is not read again.
"""

from __future__ import annotations

from collections.abc import Iterator

from gpt_kit.errors import InputError
from gpt_kit.generation.engine import Engine
from gpt_kit.generation.generate import write
from gpt_kit.generation.request import Request
from gpt_kit.generation.sampling import GREEDY, Sampling
from gpt_kit.generation.streaming import text_of
from gpt_kit.model import GPTModel
from gpt_kit.tokenizers import ASSISTANT, USER, Message, Tokenizer, check_chat_tokenizer, render_chat

ANSWER_SHARE = 4
"""The answer gets at least one part in so many of the context."""


class Chat:
    """`ask` streams an answer and remembers it; `messages` is the conversation that the next answer goes on from."""

    def __init__(
        self,
        model: GPTModel | Engine,
        tokenizer: Tokenizer,
        *,
        system: str = "",
        max_new_tokens: int = 400,
        sampling: Sampling = GREEDY,
        seed: int | None = None,
    ) -> None:
        """`seed` is that of the first answer; the next one has seed + 1. Raises: TokenizerError for a tokenizer without chat format."""
        check_chat_tokenizer(tokenizer)
        self._engine = model if isinstance(model, Engine) else Engine(model, slots=1)
        self._tokenizer = tokenizer
        self._ends = frozenset(tokenizer.special_tokens[name] for name in (USER, ASSISTANT))
        """A model that writes the next question itself has also ended its answer."""
        if tokenizer.end_of_text_id is not None:
            self._ends |= {tokenizer.end_of_text_id}
        self._opening = [Message("system", system)] if system else []
        self._max_new_tokens, self._sampling, self._seed = max_new_tokens, sampling, seed
        self.reset()

    def reset(self) -> None:
        """Forget what was said, but not the system message."""
        self.messages = list(self._opening)
        self.num_dropped = 0
        """Exchanges that the model no longer sees."""
        self.was_cut = False
        """The last answer was ended by its length."""

    def ask(self, question: str) -> Iterator[str]:
        """Yield the answer in pieces. An answer that is given up half-way is remembered as far as it went.

        Raises: InputError for a question that leaves no room for an answer, TokenizerError for one that cannot be spelled; the
        conversation then stays as it was.
        """
        messages, prompt_ids = self._fitted([*self.messages, Message("user", question)])
        room = min(self._max_new_tokens, self._engine.context - len(prompt_ids))
        pieces: list[str] = []
        try:
            for piece in text_of(self._answer_ids(prompt_ids, room), self._tokenizer, prompt_ids):
                pieces.append(piece)
                yield piece
        finally:
            self.messages = [*messages, Message("assistant", "".join(pieces))]
            self._seed = None if self._seed is None else self._seed + 1

    def _answer_ids(self, prompt_ids: list[int], room: int) -> Iterator[int]:
        self.was_cut = False
        request = Request(prompt=prompt_ids, max_new_tokens=room, sampling=self._sampling, seed=self._seed, stop_ids=self._ends)
        for token in write(self._engine, request):
            yield token
            room -= 1
        self.was_cut = room == 0

    def _fitted(self, messages: list[Message]) -> tuple[list[Message], list[int]]:
        """The newest of `messages` that fit, and the prompt that they make."""
        num_opening, num_dropped = len(self._opening), 0
        wanted = min(self._max_new_tokens, self._engine.context // ANSWER_SHARE)
        while True:
            ids = render_chat(self._tokenizer, messages, add_generation_prompt=True).ids
            if len(ids) + wanted <= self._engine.context:
                break
            if len(messages) == num_opening + 1:
                raise InputError(
                    f"this message makes a prompt of {len(ids):,} tokens; the context of this model has {self._engine.context:,}, "
                    f"of which {wanted:,} are kept for the answer. Shorten the message"
                )
            messages = messages[:num_opening] + messages[num_opening + 2 :]
            num_dropped += 1
        self.num_dropped += num_dropped
        return messages, ids
