"""Trained, character and byte tokenizers lose nothing, give the same result twice, and say what they cannot do."""

from __future__ import annotations

import json
import pickle
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt_kit.errors import DataError, TokenizerError
from gpt_kit.tokenizers import Tokenizer, load_tokenizer, train_tokenizer
from gpt_kit.tokenizers.gpt2 import BytePairTokenizer
from gpt_kit.tokenizers.huggingface import HuggingFaceTokenizer

any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


def test_training_twice_gives_the_same_tokenizer(bpe: Tokenizer, corpus: list[str]):
    again = train_tokenizer("bpe", iter(corpus), 350)
    assert again.fingerprint == bpe.fingerprint
    assert train_tokenizer("bpe", corpus, 340).fingerprint != bpe.fingerprint


def test_a_trained_vocabulary_has_all_bytes_and_the_end_token_last(bpe: Tokenizer):
    assert (bpe.vocab_size, bpe.end_of_text_id, bpe.special_tokens) == (350, 349, {"<|endoftext|>": 349})
    assert 349 not in bpe.encode("<|endoftext|>")
    assert len(bpe.encode("the quick brown fox")) < 10


def test_the_fast_path_gives_the_ids_of_the_tokenizers_library(bpe: Tokenizer, hard_texts: list[str]):
    """The trained vocabulary runs through tiktoken; the same document through `tokenizers` is the reference."""
    assert isinstance(bpe, BytePairTokenizer)
    slow = HuggingFaceTokenizer(bpe.document())

    @settings(max_examples=300, deadline=None, database=None)
    @given(any_text | st.text(alphabet="theqickbrownfx .'s\n", max_size=60))
    def check(text: str) -> None:
        assert bpe.encode(text) == slow.encode(text)

    check()
    for text in hard_texts:
        assert bpe.encode(text) == slow.encode(text)
    ids = [int(i) for i in np.random.default_rng(0).integers(0, 350, 2000)]
    assert bpe.decode(ids) == slow.decode(ids)


def test_merges_that_tiktoken_would_apply_otherwise_stay_with_the_library(bpe: Tokenizer):
    """abc is listed as a + bc, but BPE on "abc" merges ab first: `tokenizers` gives ab, c; tiktoken would give abc."""
    from tokenizers import Tokenizer as Engine

    from gpt_kit.tokenizers import as_tokenizer

    document = bpe.document()
    base = {token: number for token, number in document["model"]["vocab"].items() if number < 256}
    document["model"]["vocab"] = {**base, "ab": 256, "bc": 257, "abc": 258}
    document["model"]["merges"] = [["a", "b"], ["b", "c"], ["a", "bc"]]
    document["added_tokens"] = []
    tokenizer = as_tokenizer(Engine.from_str(json.dumps(document)))
    assert isinstance(tokenizer, HuggingFaceTokenizer)
    assert tokenizer.encode("abc") == [256, base["c"]]


@pytest.mark.parametrize("kind", ["bpe", "byte"])
def test_every_text_comes_back(kind: str, bpe: Tokenizer, hard_texts: list[str]):
    tokenizer = bpe if kind == "bpe" else load_tokenizer("byte")

    @settings(max_examples=200, deadline=None, database=None)
    @given(any_text)
    def check(text: str) -> None:
        assert tokenizer.decode(tokenizer.encode(text)) == text

    check()
    for text in hard_texts:
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.decode(tokenizer.encode("a\ud800b")) == "a\ufffdb"


def test_bytes_are_utf8(hard_texts: list[str]):
    tokenizer = load_tokenizer("byte")
    assert (tokenizer.vocab_size, tokenizer.end_of_text_id) == (257, 256)
    assert [tokenizer.encode(text) for text in hard_texts] == [list(text.encode()) for text in hard_texts]
    assert tokenizer.decode([0xC3, 256, 0xA9]) == "\ufffd<|endoftext|>\ufffd"
    assert tokenizer.fingerprint == train_tokenizer("byte", []).fingerprint


def test_characters_of_shakespeare(data_folder):
    text = (data_folder / "tinyshakespeare.txt").read_text(encoding="utf-8")
    tokenizer = train_tokenizer("char", [text])
    assert (tokenizer.vocab_size, tokenizer.end_of_text_id, tokenizer.special_tokens) == (65, None, {})
    tokenizer.encode("warm")
    started = time.monotonic()
    ids = tokenizer.encode(text)
    assert time.monotonic() - started < 1.0  # 0.03 s on an idle core; the bound leaves room for a busy machine
    characters = sorted(set(text))
    assert ids == [characters.index(c) for c in text[:1000]] + ids[1000:]
    assert tokenizer.decode(ids) == text


def test_characters_are_sorted_whatever_the_documents_order():
    assert train_tokenizer("char", ["cab", "d\n"]).fingerprint == train_tokenizer("char", ["d\nc", "ba"]).fingerprint
    assert train_tokenizer("char", ["cab\n"]).encode("\nabc") == [0, 1, 2, 3]


@pytest.mark.parametrize("text", ["abé", "ab\U0001f600", "ab\x00"])
def test_an_unknown_character_is_named_with_its_place(text: str):
    tokenizer = train_tokenizer("char", ["abc"])
    with pytest.raises(TokenizerError) as caught:
        tokenizer.encode(text)
    message = str(caught.value)
    assert f"U+{ord(text[2]):04X}" in message and "position 2" in message and repr(text[2]) in message and "byte" in message


def test_characters_take_special_tokens_but_no_single_character():
    tokenizer = train_tokenizer("char", ["<|endoftext|> abc"]).with_special_tokens(["<|endoftext|>", "<|user|>"])
    assert tokenizer.end_of_text_id == tokenizer.vocab_size - 2
    assert tokenizer.end_of_text_id not in tokenizer.encode("<|endoftext|>")
    assert tokenizer.decode([tokenizer.end_of_text_id, 0]) == "<|endoftext|> "
    with pytest.raises(TokenizerError, match="ordinary"):
        tokenizer.with_special_tokens(["z"])


@pytest.mark.parametrize("kind", ["bpe", "char"])
@pytest.mark.parametrize("documents", [[], ["", ""], iter(())])
def test_an_empty_corpus_is_refused(kind: str, documents):
    with pytest.raises(DataError, match="corpus is empty"):
        train_tokenizer(kind, documents)


def test_what_cannot_be_trained_is_refused():
    with pytest.raises(TokenizerError, match="256 bytes"):
        train_tokenizer("bpe", ["abc"], vocab_size=256)
    with pytest.raises(DataError, match="list of texts"):
        train_tokenizer("char", "abc")
    with pytest.raises(TokenizerError, match="unknown tokenizer kind 'word'"):
        train_tokenizer("word", ["abc"])


def test_the_smallest_vocabulary_is_bytes_alone():
    tokenizer = train_tokenizer("bpe", ["abcabc"], vocab_size=257)
    assert tokenizer.vocab_size == 257 and len(tokenizer.encode("abc é")) == 6


def test_lone_surrogates_in_a_corpus_do_no_harm():
    assert "\ufffd" in train_tokenizer("char", ["a\ud800"]).decode([0, 1])
    assert train_tokenizer("bpe", ["a\ud800 a\ud800"], 300).decode([0]) == "!"


@pytest.mark.parametrize("kind", ["bpe", "char", "byte"])
def test_ids_are_accepted_in_any_form_and_refused_out_of_range(kind: str):
    tokenizer = train_tokenizer(kind, ["abc abc"], 300)
    ids = tokenizer.encode("abc a")
    for form in (tuple(ids), iter(ids), np.array(ids, dtype=np.uint16), list(np.array(ids)), np.array(ids)[:0]):
        assert tokenizer.decode(form) in ("abc a", "")
    for bad in (tokenizer.vocab_size, -1, 10**30):
        with pytest.raises(TokenizerError, match=rf"id {bad} .*vocab_size {tokenizer.vocab_size}"):
            tokenizer.decode([0, bad])
    for wrong in ([[1]], 3, ["a"], [1.5], np.zeros((1, 2), dtype=int)):
        with pytest.raises(TokenizerError, match="flat sequence"):
            tokenizer.decode(wrong)


@pytest.mark.parametrize("kind", ["bpe", "char", "byte"])
def test_a_copy_for_a_worker_process_is_the_same(kind: str):
    tokenizer = train_tokenizer(kind, ["abc abc"], 300).with_special_tokens(["<|user|>"])
    copy = pickle.loads(pickle.dumps(tokenizer))
    assert copy.fingerprint == tokenizer.fingerprint and copy.encode("cab a") == tokenizer.encode("cab a")
