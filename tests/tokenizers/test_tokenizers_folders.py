"""A saved tokenizer is the same tokenizer: for transformers (ids and text), and for us (fingerprint)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt_kit.tokenizers import Tokenizer, as_tokenizer, load_tokenizer, train_tokenizer
from gpt_kit.tokenizers.gpt2 import GPT2Tokenizer

KINDS = ["gpt2", "gpt2+chat", "gpt1", "gpt1+end", "bpe", "char", "char+end", "byte"]


@pytest.fixture
def tokenizer(kind: str, request: pytest.FixtureRequest, hard_texts: list[str]) -> Tokenizer:
    """One of KINDS. Only GPT-1 needs files from outside the project, so only its tests are skipped without them."""
    base, _, extra = kind.partition("+")
    found = {
        "byte": lambda: load_tokenizer("byte"),
        "char": lambda: train_tokenizer("char", hard_texts),
    }.get(base, lambda: request.getfixturevalue(base))()
    return found.with_special_tokens({"": [], "chat": ["<|user|>", "<|assistant|>"], "end": ["<bos>", "<|endoftext|>"]}[extra])


@pytest.mark.parametrize(
    ("kind", "model_type"), [*((kind, None) for kind in KINDS), ("gpt2+chat", "gpt2"), ("gpt1+end", "openai-gpt"), ("char", "gpt2")]
)
def test_transformers_reads_a_saved_tokenizer_alike(tokenizer: Tokenizer, model_type: str | None, hard_texts: list[str], tmp_path: Path):
    """Alone or beside a model's config.json: AutoTokenizer looks at that too."""
    from transformers import AutoTokenizer

    tokenizer.save(tmp_path)
    if model_type:
        (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    theirs = AutoTokenizer.from_pretrained(tmp_path)

    assert len(theirs) == tokenizer.vocab_size
    assert theirs.eos_token_id == tokenizer.end_of_text_id
    assert {name: theirs.convert_tokens_to_ids(name) for name in tokenizer.special_tokens} == tokenizer.special_tokens
    # GPT2Model adds an embedding for every token_type_id it is given, and transformers 4 gives them unless the file forbids it.
    names = json.loads((tmp_path / "tokenizer_config.json").read_text())["model_input_names"]
    assert names == ["input_ids", "attention_mask"] and sorted(theirs("a")) == sorted(names)
    for text in hard_texts:
        ids = tokenizer.encode(text)
        assert theirs.encode(text, add_special_tokens=False, split_special_tokens=True) == ids
        if not any(name in text for name in tokenizer.special_tokens):
            assert theirs.encode(text, add_special_tokens=False) == ids
        framed = [*tokenizer.special_tokens.values(), *ids, *tokenizer.special_tokens.values()]
        assert theirs.decode(framed) == tokenizer.decode(framed)
        content = [number for number in ids if number not in framed[: len(tokenizer.special_tokens)]]  # GPT-1 has <unk> in content
        assert theirs.decode(framed, skip_special_tokens=True) == tokenizer.decode(content)


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_tokenizer_loads_as_itself(tokenizer: Tokenizer, hard_texts: list[str], tmp_path: Path):
    tokenizer.save(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert type(loaded) is type(tokenizer) and loaded.name == tokenizer.name
    assert loaded.fingerprint == tokenizer.fingerprint
    assert (loaded.vocab_size, loaded.end_of_text_id) == (tokenizer.vocab_size, tokenizer.end_of_text_id)
    assert loaded.special_tokens == tokenizer.special_tokens
    assert loaded.encode_batch(hard_texts) == tokenizer.encode_batch(hard_texts)
    loaded.save(tmp_path / "again")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        assert json.loads((tmp_path / "again" / file).read_text()) == json.loads((tmp_path / file).read_text())


@pytest.mark.parametrize("kind", ["gpt2", "gpt2+chat", "bpe", "byte", "gpt1"])
def test_vocab_and_merges_alone_mean_the_same_ids(kind: str, tokenizer: Tokenizer, hard_texts: list[str], tmp_path: Path):
    tokenizer.save(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    loaded = load_tokenizer(tmp_path)
    assert loaded.encode_batch(hard_texts) == tokenizer.encode_batch(hard_texts)
    if kind in ("gpt2", "gpt1"):
        assert loaded.fingerprint == tokenizer.fingerprint


def test_gpt2_is_one_tokenizer_in_every_form(gpt2: Tokenizer, tmp_path: Path):
    from transformers import GPT2Tokenizer as Theirs

    gpt2.save(tmp_path / "kit")
    release, plain, hugging_face = tmp_path / "release", tmp_path / "plain", tmp_path / "hugging-face"
    release.mkdir()
    shutil.copy(tmp_path / "kit" / "vocab.json", release / "encoder.json")
    shutil.copy(tmp_path / "kit" / "merges.txt", release / "vocab.bpe")
    plain.mkdir()
    shutil.copy(release / "encoder.json", plain / "vocab.json")
    (plain / "merges.txt").write_bytes((release / "vocab.bpe").read_bytes().replace(b"\n", b"\r\n"))  # through a Windows checkout
    Theirs.from_pretrained(plain).save_pretrained(hugging_face)
    for folder in (release, plain, hugging_face):
        loaded = load_tokenizer(folder)
        assert isinstance(loaded, GPT2Tokenizer), folder
        assert (loaded.fingerprint, loaded.end_of_text_id) == (gpt2.fingerprint, 50256)


def test_fingerprints_do_not_change_between_releases(gpt2: Tokenizer):
    """Shards on disk carry these: a change here makes old corpora unreadable."""
    assert gpt2.fingerprint[:16] == "44855decb4c20251"
    assert load_tokenizer("byte").fingerprint[:16] == "9276daf6a02374f7"
    assert train_tokenizer("char", ["abc\n"]).fingerprint[:16] == "f6daa0fa72b747ed"
    assert train_tokenizer("bpe", ["abab"], 258).fingerprint[:16] == "d2959d8cca303097"


def test_the_fingerprint_of_gpt1_does_not_change_between_releases(gpt1: Tokenizer):
    assert gpt1.fingerprint[:16] == "2e91cf0dea3a2fc2"


def test_different_tokenizers_have_different_fingerprints(gpt2: Tokenizer, bpe: Tokenizer):
    """Also where only the end token, the order of two added tokens, the merges or one character differ."""
    different = [
        gpt2,
        bpe,
        gpt2.with_special_tokens(["<|a|>", "<|b|>"]),
        gpt2.with_special_tokens(["<|b|>", "<|a|>"]),
        load_tokenizer("byte"),
        train_tokenizer("bpe", ["nothing"], 257),
        train_tokenizer("bpe", ["ab ab"], 258),
        train_tokenizer("bpe", ["ba ba"], 258),
        train_tokenizer("char", ["abc"]),
        train_tokenizer("char", ["abd"]),
        train_tokenizer("char", ["abc"]).with_special_tokens(["<|endoftext|>"]),
    ]
    assert len({tokenizer.fingerprint for tokenizer in different}) == len(different)


def test_any_other_tiktoken_encoding_is_wrapped_saved_and_loaded(bpe: Tokenizer, tmp_path: Path):
    """A pattern and special ids unlike GPT-2's, with a hole in the numbering as in cl100k."""
    ranks = dict(bpe._encoding._mergeable_ranks)  # type: ignore[attr-defined]
    special = {"<|endoftext|>": 410, "<|fim|>": 412}
    pattern = r"\p{L}+|\p{N}{1,3}|[^\s\p{L}\p{N}]+|\s+"
    encoding = tiktoken.Encoding("mine", pat_str=pattern, mergeable_ranks=ranks, special_tokens=special)
    tokenizer = as_tokenizer(encoding)
    assert (tokenizer.name, tokenizer.vocab_size, tokenizer.end_of_text_id) == ("mine", 413, 410)
    tokenizer.save(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert loaded.fingerprint == tokenizer.fingerprint and loaded.special_tokens == special

    @settings(max_examples=100, deadline=None, database=None)
    @given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
    def check(text: str) -> None:
        assert tokenizer.encode(text) == encoding.encode_ordinary(text) == loaded.encode(text)

    check()
    for either in (tokenizer, loaded):
        with pytest.raises(ValueError, match="id 411 "):
            either.decode([1, 411])


def test_files_of_an_earlier_tokenizer_do_not_stay_behind(bpe: Tokenizer, tmp_path: Path):
    bpe.save(tmp_path)
    assert (tmp_path / "merges.txt").is_file()
    train_tokenizer("char", ["abc"]).save(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["tokenizer.json", "tokenizer_config.json"]
