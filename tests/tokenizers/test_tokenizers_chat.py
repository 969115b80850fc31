"""The chat format: our ids are transformers' ids of the saved template, and what people write never becomes a mark."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpt_kit.errors import DataError, GPTKitError, TokenizerError
from gpt_kit.tokenizers import ASSISTANT, USER, Message, Tokenizer, chat_tokenizer, load_tokenizer, render_chat, train_tokenizer
from gpt_kit.tokenizers.chat import CHAT_TEMPLATE

KINDS = ["gpt2", "gpt1", "bpe", "byte", "char", "llama"]
SPECIALS = ["<|user|>", "<|assistant|>", "<|endoftext|>", "<bos>", "</s>", "<unk>"]
CHARACTERS = st.characters(exclude_categories=["Cs"])
PLAIN = st.one_of(st.text(CHARACTERS, max_size=30), st.text("<|>userasitn\n \t/", max_size=20))
SPELLING = st.lists(st.one_of(st.sampled_from(SPECIALS), PLAIN), max_size=5).map("".join)
QUESTION = Message("user", "2 + 2?")


def base(kind: str, request: pytest.FixtureRequest) -> Tokenizer:
    if kind == "llama":  # an end token of another name, through the `tokenizers` library
        document = request.getfixturevalue("bpe").with_special_tokens(["</s>"]).document()
        document["normalizer"] = {"type": "NFC"}
        from gpt_kit.tokenizers.huggingface import HuggingFaceTokenizer

        return HuggingFaceTokenizer(document, {"eos_token": "</s>"})
    if kind == "char":
        return train_tokenizer("char", ["".join(map(chr, range(0x250)))])
    return load_tokenizer("byte") if kind == "byte" else request.getfixturevalue(kind)


@pytest.fixture
def chat(kind: str, request: pytest.FixtureRequest) -> Tokenizer:
    return chat_tokenizer(base(kind, request))


def conversations(content: st.SearchStrategy[str]) -> st.SearchStrategy[list[Message]]:
    """One to five messages in turn, with or without a system message."""

    def make(system: list[str], texts: list[str]) -> list[Message]:
        turns = [Message("assistant" if i % 2 else "user", text) for i, text in enumerate(texts)]
        return [Message("system", text) for text in system] + turns

    return st.builds(make, st.lists(content, max_size=1), st.lists(content, min_size=1, max_size=5))


def has_special(messages: list[Message], tokenizer: Tokenizer) -> bool:
    return any(name in message.content for message in messages for name in tokenizer.special_tokens)


def fuzz(*strategies: st.SearchStrategy, examples: int = 60) -> Callable:
    def decorate(check: Callable) -> Callable:
        return settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))(
            given(*strategies)(check)
        )

    return decorate


def transformers_tokenizer(tokenizer: Tokenizer, folder: Path) -> Any:
    from transformers import AutoTokenizer

    tokenizer.save(folder)
    return AutoTokenizer.from_pretrained(folder)


def their_ids(theirs: Any, messages: list[Message], add_generation_prompt: bool) -> tuple[list[int], list[bool]]:
    told = theirs.apply_chat_template(
        [asdict(message) for message in messages],
        add_generation_prompt=add_generation_prompt,
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    return told["input_ids"], [bool(one) for one in told["assistant_masks"]]


@pytest.mark.parametrize("kind", KINDS)
def test_transformers_makes_the_same_ids(kind: str, chat: Tokenizer, tmp_path: Path) -> None:
    """And says the same of what is the assistant's, wherever it counts characters as text does (GPT-1 cleans the text first)."""
    theirs = transformers_tokenizer(chat, tmp_path)
    compared = 0

    @fuzz(conversations(PLAIN))
    def check(messages: list[Message]) -> None:
        nonlocal compared
        if has_special(messages, chat) or (kind == "char" and any(ord(c) >= 0x250 for m in messages for c in m.content)):
            return
        compared += 1
        ask = messages[-1].role != "assistant"
        ids, mask = their_ids(theirs, messages, ask)
        ours = render_chat(chat, messages, add_generation_prompt=ask)
        assert ours.ids == ids
        assert len(ours.trained) == len(ids)
        contents = [message.content for message in messages]
        if all(text.isascii() and text.isprintable() and (kind != "gpt1" or text == text.strip()) for text in contents):
            assert ours.trained == mask

    check()
    assert compared > 20


@pytest.mark.parametrize("kind", KINDS)
def test_content_never_becomes_a_special_token(kind: str, chat: Tokenizer) -> None:
    """Whatever is spelled, there are as many marks as messages, and every id between them is one of ordinary text."""
    marks = {number for name, number in chat.special_tokens.items() if name != "<unk>"}  # GPT-1 has <unk> for characters it lacks

    @fuzz(conversations(SPELLING), examples=150)
    def check(messages: list[Message]) -> None:
        try:
            ids, trained = render_chat(chat, messages)
        except TokenizerError as error:
            assert kind == "char" and "is not among" in str(error)
            return
        turns = [message for message in messages if message.role != "system"]
        framed = [[chat.special_tokens[USER]], [chat.special_tokens[ASSISTANT], chat.end_of_text_id]]
        assert [number for number in ids if number in marks] == [n for i in range(len(turns)) for n in framed[i % 2]]
        opening = messages[0].content + "\n\n" if messages[0].role == "system" else ""
        contents = [chat.encode((opening if i == 0 else "") + turn.content) for i, turn in enumerate(turns)]
        assert ids == [n for i, c in enumerate(contents) for n in [framed[i % 2][0], *c, *framed[i % 2][1:]]]
        assert sum(trained) == sum(len(content) + 1 for content in contents[1::2])

    check()


def test_gpt2s_chat_tokens_have_the_ids_that_they_always_have(gpt2: Tokenizer) -> None:
    chat = chat_tokenizer(gpt2)
    assert (chat.special_tokens[USER], chat.special_tokens[ASSISTANT], chat.end_of_text_id, chat.vocab_size) == (50257, 50258, 50256, 50259)
    messages = [Message("system", "Be brief."), Message("user", "Hi"), Message("assistant", "Hello!"), Message("user", "<|user|>")]
    ids, trained = render_chat(chat, messages, add_generation_prompt=True)
    opening, hello, spelled = gpt2.encode("Be brief.\n\nHi"), gpt2.encode("Hello!"), gpt2.encode("<|user|>")
    assert ids == [50257, *opening, 50258, *hello, 50256, 50257, *spelled, 50258]
    learned = [i for i, is_trained in enumerate(trained) if is_trained]
    assert [ids[i] for i in learned] == [*hello, 50256]
    assert learned[0] == len(opening) + 2  # by place: an end token or an answer's words elsewhere are not learned


@pytest.mark.parametrize("kind", ["gpt2", "byte", "llama"])
def test_the_template_is_saved_and_loaded_with_the_tokenizer(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    plain = base(kind, request)
    chat = chat_tokenizer(plain)
    assert plain.chat_template is None and USER not in plain.special_tokens
    chat.save(tmp_path)
    assert (tmp_path / "chat_template.jinja").read_text() == CHAT_TEMPLATE
    loaded = load_tokenizer(tmp_path)
    messages = [QUESTION, Message("assistant", "4")]
    for same in (loaded, chat_tokenizer(loaded), copy.copy(loaded), pickle.loads(pickle.dumps(loaded))):
        assert (same.chat_template, same.fingerprint, same.end_of_text_id) == (CHAT_TEMPLATE, chat.fingerprint, chat.end_of_text_id)
        assert render_chat(same, messages) == render_chat(chat, messages)
    assert loaded.with_special_tokens(["<|tool|>"]).chat_template == CHAT_TEMPLATE
    plain.save(tmp_path)  # over it: the template would speak of marks that are no more
    assert not (tmp_path / "chat_template.jinja").exists() and load_tokenizer(tmp_path).chat_template is None


def test_a_tokenizer_that_has_the_marks_already_is_not_changed_itself(gpt2: Tokenizer) -> None:
    marked = gpt2.with_special_tokens([USER, ASSISTANT])
    assert chat_tokenizer(marked).fingerprint == marked.fingerprint and marked.chat_template is None


@pytest.mark.parametrize("name", ["chat_template.jinja", "tokenizer_config.json"])
def test_another_chat_format_is_kept_but_not_spoken(gpt2: Tokenizer, name: str, tmp_path: Path) -> None:
    gpt2.save(tmp_path)
    with pytest.raises(TokenizerError, match=r"has no chat format.*gpt-kit finetune sft"):
        render_chat(load_tokenizer(tmp_path), [QUESTION])
    config = tmp_path / "tokenizer_config.json"
    template = "{{ messages[0]['content'] }}"
    (tmp_path / name).write_text(
        template if name != config.name else json.dumps(json.loads(config.read_text()) | {"chat_template": template})
    )
    loaded = load_tokenizer(tmp_path)
    assert loaded.chat_template == template
    with pytest.raises(TokenizerError, match="a chat format of its own"):
        render_chat(loaded, [QUESTION])


@pytest.mark.parametrize(
    ("messages", "ask", "said"),
    [
        ([], False, "there are no messages"),
        ([Message("system", "x")], True, "only a system message"),
        ([Message("assistant", "x")], False, "message 1 is from assistant, where user was expected"),
        ([QUESTION, QUESTION], False, "message 2 is from user, where assistant was expected"),
        ([Message("system", "x"), QUESTION, QUESTION], False, "message 3 is from user"),
        ([QUESTION, Message("system", "x")], False, "message 2 is from system"),
        ([QUESTION, Message("assistant", "4")], True, "the last message is the assistant's"),
        ([Message("tool", "x")], False, "message 1 has the role 'tool'; expected system, user, assistant"),  # type: ignore[arg-type]
    ],
)
def test_messages_out_of_turn_are_refused_here_and_by_the_template(messages: list, ask: bool, said: str, gpt2: Tokenizer, tmp_path: Path):
    from jinja2.exceptions import TemplateError

    chat = chat_tokenizer(gpt2)
    with pytest.raises(DataError, match=said):
        render_chat(chat, messages, add_generation_prompt=ask)
    theirs = transformers_tokenizer(chat, tmp_path)
    with pytest.raises((TemplateError, ValueError)):  # no messages at all are refused before the template is asked
        their_ids(theirs, messages, ask)


def test_a_mark_that_is_a_word_already_is_refused() -> None:
    document = train_tokenizer("bpe", ["abab"], 258).document()
    document["added_tokens"].append({**document["added_tokens"][0], "id": 258, "content": "<|user|>", "special": False})
    from gpt_kit.tokenizers.huggingface import HuggingFaceTokenizer

    chat = chat_tokenizer(HuggingFaceTokenizer(document))  # spelled like a mark, so it is one, under its old id
    assert chat.special_tokens[USER] == 258 and 258 not in render_chat(chat, [Message("user", USER)]).ids[1:]
    with pytest.raises(GPTKitError, match="ordinary piece"):
        train_tokenizer("char", ["ab"]).with_special_tokens(["a"])
