"""The stream of text: whole characters only, as early as they are certain, and never a letter of a stop string.

The ids are a script, so that every claim can be made about a known text.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gpt_kit.config import ModelConfig
from gpt_kit.generation import Sampling, encode_prompt, generate_text, stream_text
from gpt_kit.model import GPTModel
from gpt_kit.tokenizers import Tokenizer, load_tokenizer, train_tokenizer

BYTE = load_tokenizer("byte")
GPT2 = load_tokenizer("gpt2")


def stream(tokenizer: Tokenizer, ids: Sequence[int | None], stop: Sequence[str] = (), prompt: str = "x") -> list[str]:
    """The pieces that a model gives which writes exactly `ids` (None: the end token)."""

    def script(*_: object, **__: object) -> Iterator[list[int | None]]:
        for token in ids:
            yield [token]

    with patch("gpt_kit.generation.streaming.generate_ids", script):
        return list(stream_text(None, tokenizer, prompt, len(ids), stop=stop))  # type: ignore[arg-type]


def cut(tokenizer: Tokenizer, ids: Sequence[int], stop: Sequence[str]) -> str:
    """What must come out: the text up to the first stop string that is complete."""
    for end in range(1, len(ids) + 1):
        so_far = tokenizer.decode(ids[:end])
        places = [so_far.index(text) for text in stop if text in so_far]
        if places:
            return so_far[: min(places)]
    return tokenizer.decode(ids)


@pytest.mark.parametrize("text", ["plain", "naïve 漢字", "👍🏽 👩‍👩‍👧‍👦 🇫🇷", "a👍b", "\U00020000\u0301"])
def test_a_character_is_never_cut_and_never_late(text: str) -> None:
    """Byte by byte: each piece is one whole character, sent with its last byte."""
    pieces = stream(BYTE, list(text.encode()))
    assert pieces == list(text)


def test_emoji_over_several_gpt2_tokens_come_whole() -> None:
    text = "I 👍🏽 you 漢"
    ids = GPT2.encode(text)
    assert len(ids) > len(text.split()), "no character is spread over tokens here"
    pieces = stream(GPT2, ids)
    assert "".join(pieces) == text
    assert not any("\ufffd" in piece for piece in pieces)


def test_half_a_character_at_the_very_end_is_shown_as_such() -> None:
    """The text that was written is the text that is given, also where it breaks off."""
    ids = list("ab👍".encode())[:-1]
    assert "".join(stream(BYTE, ids)) == BYTE.decode(ids)


def test_invalid_bytes_in_the_middle_do_not_stop_the_stream() -> None:
    ids = [*b"ab", 0xFF, *b"cd"]
    pieces = stream(BYTE, ids)
    assert "".join(pieces) == "ab\ufffdcd"


def test_the_end_token_ends_the_text_and_releases_what_was_held_back() -> None:
    assert "".join(stream(BYTE, [*b"Hello ST", None, *b"never"], stop=["STOP"])) == "Hello ST"


@pytest.mark.parametrize(
    ("text", "stop", "expected"),
    [
        ("one STOP two", ["STOP"], "one "),
        ("STOP", ["STOP"], ""),
        ("ab", ["abcd"], "ab"),
        ("abcd", ["abcd"], ""),
        ("xabcd", ["abcd"], "x"),
        ("abcabcd", ["abcd"], "abc"),
        ("one two", ["two", "one"], ""),
        ("a\n\nb", ["\n\n"], "a"),
        ("kein 漢字 mehr", ["漢字"], "kein "),
        ("👍👎 gone", ["👎"], "👍"),
        ("nothing of it", ["STOP", "###"], "nothing of it"),
    ],
)
def test_not_a_letter_of_a_stop_string_comes_out(text: str, stop: list[str], expected: str) -> None:
    assert "".join(stream(BYTE, list(text.encode()), stop)) == expected


def test_a_stop_string_across_token_borders_is_found() -> None:
    """'ck br' begins inside one GPT-2 token and ends inside the next."""
    ids = GPT2.encode("The quick brown fox")
    assert [GPT2.decode([i]) for i in ids] == ["The", " quick", " brown", " fox"]
    assert "".join(stream(GPT2, ids, ["ck br"])) == "The qui"


@settings(max_examples=300, deadline=None)
@given(
    text=st.text(st.sampled_from("abc漢👍"), max_size=14),
    stop=st.lists(st.text(st.sampled_from("abc漢👍"), min_size=1, max_size=5), max_size=3),
)
@example(text="ab", stop=["abcd"])
@example(text="abcd", stop=["abcd"])
def test_any_text_with_any_stop_strings_comes_out_as_it_should(text: str, stop: list[str]) -> None:
    ids = list(text.encode())
    pieces = stream(BYTE, ids, stop)
    assert "".join(pieces) == cut(BYTE, ids, stop)
    assert not any("\ufffd" in piece for piece in pieces)


@pytest.fixture(scope="module")
def gpt1(data_folder: Path) -> Tokenizer:
    return load_tokenizer(data_folder / "gpt1-tokenizer")


def test_the_space_between_prompt_and_continuation_is_kept(gpt1: Tokenizer) -> None:
    """GPT-1 has its spaces between words, not in them: its new ids alone read without the first one."""
    ids = gpt1.encode("there was a king")
    assert gpt1.decode(ids[1:]) == "was a king"
    assert "".join(stream(gpt1, ids[1:], prompt="there")) == " was a king"
    assert "".join(stream(gpt1, ids[1:], ["a k"], prompt="there")) == " was "


@pytest.mark.parametrize("prompt", ["ab", "👍", "\ufffd", "cut \ud83d", "👩\u200d", "", "漢字 " * 300], ids=ascii)
@pytest.mark.parametrize("name", ["byte", "gpt2", "gpt1"])
def test_any_ids_behind_any_prompt_read_as_all_ids_at_once(name: str, prompt: str, gpt1: Tokenizer) -> None:
    """Random ids, so with invalid bytes and half characters everywhere; the prompt may itself end in U+FFFD or half an emoji."""
    tokenizer = {"byte": BYTE, "gpt2": GPT2, "gpt1": gpt1}[name]
    rng = random.Random(7)
    opening = encode_prompt(prompt, tokenizer)
    for _ in range(20):
        ids = [*rng.choices(range(128, tokenizer.vocab_size), k=12), *rng.choices(range(tokenizer.vocab_size), k=12)]
        expected = tokenizer.decode(opening + ids)[len(tokenizer.decode(opening)) :]
        assert "".join(stream(tokenizer, ids, prompt=prompt)) == expected


def test_a_long_prompt_is_not_decoded_again_for_every_token() -> None:
    """Ids decoded per new token stay a handful, whatever was before."""
    decoded: list[int] = []

    def decode(ids: list[int]) -> str:
        decoded.append(len(ids))
        return Tokenizer.decode(BYTE, ids)

    with patch.object(BYTE, "decode", decode):
        stream(BYTE, list(b"abc" * 100), prompt="p" * 5000)
    assert sum(decoded) < 2 * 5001 + 300 * 3


def test_the_whole_text_is_the_joined_stream(tiny_config: Callable[..., ModelConfig], random_model: Callable[..., GPTModel]) -> None:
    """With a real model, sampled past its context, with and without the cache."""
    model = random_model(tiny_config(vocab_size=257), std=0.4)
    options = {"sampling": Sampling(temperature=1.0), "seed": 3}
    pieces = list(stream_text(model, BYTE, "prompt", 30, **options))
    assert len(pieces) > 3
    assert "".join(pieces) == generate_text(model, BYTE, "prompt", 30, **options)
    assert "".join(pieces) == generate_text(model, BYTE, "prompt", 30, use_cache=False, **options)


def test_an_empty_prompt_begins_a_new_document() -> None:
    assert encode_prompt("", GPT2) == [50256]
    assert encode_prompt("", BYTE) == [256]
    assert encode_prompt("", train_tokenizer("char", ["a\nb"])) == [0]  # no token says so; the first entry will do
    assert encode_prompt("Hi", GPT2) == GPT2.encode("Hi")


def test_an_empty_prompt_works_for_a_vocabulary_without_end_token_and_without_line_break() -> None:
    """A character tokenizer of a text in one line: a run must be able to write its samples."""
    tokenizer = train_tokenizer("char", ["abc"])
    ids = encode_prompt("", tokenizer)
    assert len(ids) == 1 and 0 <= ids[0] < tokenizer.vocab_size
