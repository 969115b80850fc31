"""A chat: what the model is given is the rendered conversation, as much of it as fits, whatever happens in between.

The answers are a script, so that every claim can be made about a known conversation.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

import pytest
import torch

from gpt_kit.config import ModelConfig
from gpt_kit.errors import InputError, TokenizerError
from gpt_kit.generation import Chat, Engine, Request, generate_ids
from gpt_kit.generation.decoder import Decoder
from gpt_kit.generation.generate import write
from gpt_kit.generation.native_pass import Part
from gpt_kit.model import GPTModel
from gpt_kit.tokenizers import ASSISTANT, USER, Message, Tokenizer, chat_tokenizer, load_tokenizer, render_chat

BYTE = chat_tokenizer(load_tokenizer("byte"))
USER_ID, ASSISTANT_ID = BYTE.special_tokens[USER], BYTE.special_tokens[ASSISTANT]


class Script:
    """Writes the given answers, one after the other, up to an end; keeps what it was asked."""

    def __init__(self, *answers: str | list[int]) -> None:
        self.answers = [BYTE.encode(answer) if isinstance(answer, str) else answer for answer in answers]
        self.requests: list[Request] = []

    @property
    def prompts(self) -> list[list[int]]:
        return [list(request.prompt) for request in self.requests]

    def __call__(self, _engine: Engine, request: Request) -> Iterator[int]:
        self.requests.append(request)
        answer = self.answers[len(self.requests) - 1][: request.max_new_tokens]
        yield from itertools.takewhile(lambda token: token not in request.stop_ids, answer)


class Unused(Engine):
    """Its context is all that counts."""

    def __init__(self, context: int) -> None:
        self.context = context


def chat_with(context: int = 1000, **options: Any) -> Chat:
    return Chat(Unused(context), BYTE, **options)


def say(chat: Chat, script: Script, *questions: str) -> list[str]:
    with patch("gpt_kit.generation.chat.write", script):
        return ["".join(chat.ask(question)) for question in questions]


def prompt(*texts: str, system: str = "") -> list[int]:
    messages = [Message("assistant" if i % 2 else "user", text) for i, text in enumerate(texts)]
    return render_chat(BYTE, [Message("system", system)] * bool(system) + messages, add_generation_prompt=True).ids


def test_every_answer_goes_on_from_the_whole_conversation() -> None:
    script, chat = Script("Hello 漢!", "<|user|>", "4"), chat_with(system="Be brief.")
    assert say(chat, script, "Hi", "<|assistant|>", "2+2") == ["Hello 漢!", "<|user|>", "4"]
    assert script.prompts == [
        prompt("Hi", system="Be brief."),
        prompt("Hi", "Hello 漢!", "<|assistant|>", system="Be brief."),
        prompt("Hi", "Hello 漢!", "<|assistant|>", "<|user|>", "2+2", system="Be brief."),
    ]
    assert script.prompts[2].count(USER_ID) == 3 and script.prompts[2].count(ASSISTANT_ID) == 3
    chat.reset()
    say(chat, other := Script("x"), "New")
    assert other.prompts == [prompt("New", system="Be brief.")]


def test_an_answer_ends_where_the_model_begins_the_next_question() -> None:
    for mark in (USER_ID, ASSISTANT_ID):
        chat = chat_with()
        assert say(chat, Script([*b"yes", mark, *b"more"]), "Hi") == ["yes"]
        assert chat.messages[-1] == Message("assistant", "yes") and not chat.was_cut


def test_the_oldest_exchanges_drop_out_and_the_system_message_stays() -> None:
    """Each exchange takes 13 tokens, the opening 5 more; 16 of 64 stay free for the answer."""
    script, chat = Script(*["12345"] * 9), chat_with(64, system="SYS")
    say(chat, script, *[f"ask {i}" for i in range(9)])
    first = [BYTE.decode(ids).partition("ask ")[2][0] for ids in script.prompts]
    assert "".join(first) == "000123456"
    assert all(len(ids) + 16 <= 64 and ids[1:4] == list(b"SYS") for ids in script.prompts)
    assert chat.num_dropped == 6
    assert max(map(len, script.prompts)) + 16 + 13 > 64, "one more exchange would have fitted"


def test_an_answer_never_goes_past_the_context_and_says_when_it_was_cut() -> None:
    script, chat = Script("x" * 100, "x" * 100, "ok"), chat_with(40, max_new_tokens=12)
    assert [len(answer) for answer in say(chat, script, "a", "b")] == [12, 12]
    assert chat.was_cut and script.requests[0].max_new_tokens == 12
    say(chat, script, "c")
    assert not chat.was_cut
    script, chat = Script("x" * 100), chat_with(40)
    assert len(say(chat, script, "q" * 20)[0]) == 40 - len(script.prompts[0]) == 18
    assert chat.was_cut


def test_a_question_without_room_is_refused_and_nothing_has_happened() -> None:
    chat = chat_with(40)
    say(chat, Script("yes"), "Hi")
    had = list(chat.messages)
    with pytest.raises(InputError, match=r"a prompt of 52 tokens; the context of this model has 40, of which 10 are kept for the answer"):
        say(chat, Script("no"), "q" * 50)
    assert chat.messages == had and chat.num_dropped == 0
    say(chat, script := Script("and on"), "Next")
    assert script.prompts == [prompt("Hi", "yes", "Next")]


def test_an_answer_given_up_half_way_is_remembered_as_far_as_it_went() -> None:
    chat = chat_with()
    with patch("gpt_kit.generation.chat.write", Script("abcdef")):
        answer = chat.ask("Hi")
        assert [next(answer), next(answer)] == ["a", "b"]
        answer.close()
    say(chat, script := Script("x"), "Next")
    assert script.prompts == [prompt("Hi", "ab", "Next")]


def test_seeds_count_up_so_that_the_same_question_may_have_another_answer() -> None:
    script = Script("a", "b", "c")
    say(chat_with(seed=5), script, "Hi", "Hi", "Hi")
    assert [request.seed for request in script.requests] == [5, 6, 7]
    say(chat_with(), script := Script("a", "b"), "Hi", "Hi")
    assert [request.seed for request in script.requests] == [None, None]


def test_a_real_models_answer_is_the_generators(tiny_config: Callable[..., ModelConfig], random_model: Callable[..., GPTModel]) -> None:
    model = random_model(tiny_config(vocab_size=BYTE.vocab_size, max_position_embeddings=48), std=0.4)
    expected = [token for (token,) in generate_ids(model, [prompt("Hi")], 12, stop_id=256)]
    answered = "".join(Chat(model, BYTE, max_new_tokens=12).ask("Hi"))
    assert answered == BYTE.decode([*prompt("Hi"), *expected])[len(BYTE.decode(prompt("Hi"))) :]


def test_what_was_said_before_is_not_read_again(
    tiny_config: Callable[..., ModelConfig], random_model: Callable[..., GPTModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor are the weights laid out anew: an engine stays. What it writes is what a new one would."""
    model = random_model(tiny_config(vocab_size=BYTE.vocab_size, max_position_embeddings=90), std=0.4)
    read, starts = Decoder.read, []

    def spy(self: Decoder, parts: list[Part]) -> torch.Tensor:
        starts.extend(part.start for part in parts if len(part.ids) > 1)
        return read(self, parts)

    monkeypatch.setattr(Decoder, "read", spy)
    chat = Chat(Engine(model, slots=1), BYTE, max_new_tokens=8)
    for question in ("One?", "Two?"):
        asked = [*chat.messages, Message("user", question)]
        ids = render_chat(BYTE, asked, add_generation_prompt=True).ids
        before = len(starts)
        answer = "".join(chat.ask(question))
        assert len(starts) == before + 1 and starts[before] >= (len(prompt("One?")) if before else 0)
        assert answer == BYTE.decode([*ids, *write(Engine(model, slots=1), wished(ids, 8))])[len(BYTE.decode(ids)) :]


def test_an_answer_given_up_does_not_go_on_in_secret(
    tiny_config: Callable[..., ModelConfig], random_model: Callable[..., GPTModel]
) -> None:
    engine = Engine(random_model(tiny_config(vocab_size=BYTE.vocab_size, max_position_embeddings=90), std=0.4), slots=1)
    pieces = write(engine, wished(prompt("Hi"), 20))
    next(pieces)
    assert not engine.is_idle
    pieces.close()  # type: ignore[attr-defined]
    assert engine.is_idle


def wished(ids: list[int], room: int) -> Request:
    return Request(prompt=ids, max_new_tokens=room, stop_ids=frozenset([USER_ID, ASSISTANT_ID, BYTE.end_of_text_id or 0]))


@pytest.mark.parametrize("tokenizer", [load_tokenizer("byte"), load_tokenizer("gpt2")], ids=["byte", "gpt2"])
def test_a_tokenizer_without_chat_format_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(TokenizerError, match="has no chat format"):
        Chat(None, tokenizer)  # type: ignore[arg-type]
