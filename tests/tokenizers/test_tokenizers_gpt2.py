"""GPT-2's ids are those of tiktoken, whatever the text; its rebuilt merges are the published file, byte for byte."""

from __future__ import annotations

import base64
import hashlib
import json
import pickle
import time
from importlib import resources

import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st
from tiktoken_ext.openai_public import r50k_pat_str

from gpt_kit.errors import TokenizerError
from gpt_kit.tokenizers import Tokenizer, as_tokenizer, load_tokenizer
from gpt_kit.tokenizers import gpt2 as module
from gpt_kit.tokenizers.document import content_digest, fingerprint_of, merges_text

VOCAB_BPE_SHA256 = "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5"
ENCODER_JSON_SHA256 = "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783"
RANKS_SHA256 = "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930"
"""All three as tiktoken 0.14 pins them in tiktoken_ext/openai_public.py."""

any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


def reference(pattern: str = r50k_pat_str) -> tiktoken.Encoding:
    """tiktoken.get_encoding("gpt2") built by hand: the real one is a download."""
    lines = resources.files("gpt_kit.tokenizers").joinpath("gpt2.tiktoken").read_text().splitlines()
    ranks = {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines)}
    return tiktoken.Encoding("gpt2", pat_str=pattern, mergeable_ranks=ranks, special_tokens={"<|endoftext|>": 50256})


@pytest.fixture(scope="module")
def tiktoken_gpt2() -> tiktoken.Encoding:
    return reference()


def test_shipped_ranks_are_the_published_ones_and_carry_their_licence():
    package = resources.files("gpt_kit.tokenizers")
    assert hashlib.sha256(package.joinpath("gpt2.tiktoken").read_bytes()).hexdigest() == RANKS_SHA256
    licence = package.joinpath("gpt2.LICENSE").read_text()
    assert "MIT License" in licence and "2022 OpenAI" in licence and RANKS_SHA256 in licence


def test_known_ids(gpt2: Tokenizer):
    assert gpt2.encode("Hello, world!") == [15496, 11, 995, 0]
    assert (gpt2.vocab_size, gpt2.end_of_text_id, gpt2.special_tokens) == (50257, 50256, {"<|endoftext|>": 50256})
    assert gpt2.decode([15496, 50256]) == "Hello<|endoftext|>"


def test_hard_texts_have_tiktokens_ids_and_come_back(gpt2: Tokenizer, tiktoken_gpt2: tiktoken.Encoding, hard_texts: list[str]):
    for text in hard_texts:
        assert gpt2.encode(text) == tiktoken_gpt2.encode(text, disallowed_special=())
        assert gpt2.decode(gpt2.encode(text)) == text
    for threads in (None, 1, 3):
        assert gpt2.encode_batch(hard_texts, threads=threads) == [gpt2.encode(text) for text in hard_texts]


@settings(max_examples=300, deadline=None, database=None)
@given(any_text)
def test_any_text_has_tiktokens_ids_and_comes_back(text: str):
    tokenizer = load_tokenizer("gpt2")
    ids = tokenizer.encode(text)
    assert ids == module._gpt2_encoding().encode_ordinary(text)
    assert tokenizer.decode(ids) == text


def test_real_texts_have_tiktokens_ids(gpt2: Tokenizer, tiktoken_gpt2: tiktoken.Encoding, data_folder):
    verdict = (data_folder / "the-verdict.txt").read_text(encoding="utf-8")
    assert len(gpt2.encode(verdict)) == 5145
    for name in ("the-verdict.txt", "tinyshakespeare.txt", "wikitext2/valid.txt"):
        text = (data_folder / name).read_text(encoding="utf-8")
        assert gpt2.encode(text) == tiktoken_gpt2.encode_ordinary(text)


def test_a_spelled_special_token_is_ordinary_text(gpt2: Tokenizer):
    ids = gpt2.encode("<|endoftext|>")
    assert 50256 not in ids and len(ids) > 1


@pytest.mark.parametrize("text", ["a\ud800b", "\udc00", "\ud83d\ude00 joined", "x" * 10 + "\udfff" * 3])
def test_lone_surrogates_are_replaced_as_tiktoken_does(gpt2: Tokenizer, tiktoken_gpt2: tiktoken.Encoding, text: str):
    assert gpt2.encode(text) == tiktoken_gpt2.encode_ordinary(text)
    assert gpt2.encode_batch([text, text], threads=2) == [gpt2.encode(text)] * 2


@given(st.lists(st.integers(0, 50256), max_size=30))
@settings(max_examples=200, deadline=None, database=None)
def test_any_ids_decode_as_tiktoken_decodes_them(ids: list[int]):
    """Most such sequences are invalid UTF-8 somewhere."""
    assert load_tokenizer("gpt2").decode(ids) == module._gpt2_encoding().decode(ids)


@pytest.mark.parametrize("text", ["a" * 10**6, " " * 10**6, "\n" * 10**6 + "x", " " * 10**6 + "x y" + "\t" * 10**6 + "z"])
def test_a_million_equal_characters_take_seconds(gpt2: Tokenizer, text: str):
    """Before 0.13 tiktoken was quadratic here; 0.14 still overflows its stack on a million spaces before a word."""
    started = time.monotonic()
    ids = gpt2.encode(text)
    assert time.monotonic() - started < 10
    assert gpt2.decode(ids) == text


def test_long_white_space_is_cut_where_the_pattern_cuts(monkeypatch: pytest.MonkeyPatch, tiktoken_gpt2: tiktoken.Encoding):
    """With probes 3 characters apart almost every run is cut, and no id may change. \\x1c is white space for Python alone."""
    monkeypatch.setattr(module, "_PROBE_EVERY", 3)
    tokenizer, released = load_tokenizer("gpt2"), reference(module.RELEASED_PATTERN)
    cuts = 0

    @settings(max_examples=500, deadline=None, database=None)
    @given(st.text(alphabet=" \n\t\r\xa0\u2003\x1c\x85a1.'s", max_size=40))
    def check(text: str) -> None:
        nonlocal cuts
        cuts += len(module._cut_long_spaces(text)) - 1
        assert tokenizer.encode(text) == tiktoken_gpt2.encode_ordinary(text) == released.encode_ordinary(text)

    check()
    assert cuts > 100


def test_rebuilt_merges_and_vocabulary_are_the_published_files(gpt2: Tokenizer):
    model = gpt2.document()["model"]
    assert hashlib.sha256(merges_text(model["merges"]).encode()).hexdigest() == VOCAB_BPE_SHA256
    assert hashlib.sha256(json.dumps(model["vocab"]).encode()).hexdigest() == ENCODER_JSON_SHA256


def test_the_written_down_digest_is_that_of_the_document(gpt2: Tokenizer):
    assert content_digest(gpt2.document()) == module.CONTENT_DIGEST
    assert gpt2.fingerprint == fingerprint_of(gpt2.document())


def test_special_tokens_are_appended_in_order_and_known_ones_keep_their_id():
    tokenizer = load_tokenizer("gpt2", special_tokens=("<|user|>", "<|endoftext|>", "<|assistant|>", "<|user|>"))
    assert tokenizer.special_tokens == {"<|endoftext|>": 50256, "<|user|>": 50257, "<|assistant|>": 50258}
    assert (tokenizer.vocab_size, tokenizer.end_of_text_id) == (50259, 50256)
    assert tokenizer.decode([50257, 15496, 50258]) == "<|user|>Hello<|assistant|>"
    assert not {50257, 50258} & set(tokenizer.encode("<|user|> hi <|assistant|>"))
    assert tokenizer.fingerprint != load_tokenizer("gpt2").fingerprint


@pytest.mark.parametrize(("name", "reason"), [("hello", "ordinary piece"), ("", "at least one"), ("<|é|>", "ASCII")])
def test_a_special_token_that_text_contains_or_that_cannot_be_written_is_refused(name: str, reason: str):
    with pytest.raises(TokenizerError, match=reason):
        load_tokenizer("gpt2", special_tokens=[name])


def test_a_copy_for_a_worker_process_gives_the_same_ids(gpt2: Tokenizer, hard_texts: list[str]):
    copy = pickle.loads(pickle.dumps(gpt2))
    assert copy.encode_batch(hard_texts) == gpt2.encode_batch(hard_texts) and copy.fingerprint == gpt2.fingerprint


@pytest.mark.parametrize("pattern", [r50k_pat_str, module.RELEASED_PATTERN])
def test_a_plain_gpt2_encoding_becomes_the_gpt2_tokenizer(gpt2: Tokenizer, pattern: str):
    wrapped = as_tokenizer(reference(pattern))
    assert wrapped.name == "gpt2" and wrapped.fingerprint == gpt2.fingerprint
    assert as_tokenizer(gpt2) is gpt2


@given(
    st.lists(st.text(alphabet="ab \n\t'.漢\ud83d<|endoftx>", max_size=12) | st.sampled_from(["<|endoftext|>", "a<|endoftext|>", " ", ""]))
)
def test_many_texts_at_once_are_encoded_like_one_by_one(texts: list[str]) -> None:
    """In one call, joined by the end token; whatever the texts end and begin with, and also where they spell the end token."""
    tokenizer = load_tokenizer("gpt2")
    assert [ids.tolist() for ids in tokenizer.encode_arrays(texts)] == [tokenizer.encode(text) for text in texts]
    assert [tokenizer.encode_array(text).tolist() for text in texts] == [tokenizer.encode(text) for text in texts]
