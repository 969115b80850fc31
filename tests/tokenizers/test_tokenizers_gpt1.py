"""GPT-1's ids are those of transformers over the same files, in every form the files come in."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpt_kit.tokenizers import Tokenizer, load_tokenizer


@pytest.fixture(scope="module")
def theirs(gpt1_published: Path):
    from transformers import OpenAIGPTTokenizer

    return OpenAIGPTTokenizer.from_pretrained(gpt1_published)


def test_sizes_and_names(gpt1: Tokenizer):
    assert (gpt1.name, gpt1.vocab_size, gpt1.end_of_text_id, gpt1.special_tokens) == ("gpt1", 40478, None, {"<unk>": 0})


def test_known_text(gpt1: Tokenizer):
    ids = gpt1.encode("Hello, WORLD! It's naïve.")
    assert gpt1.decode(ids) == "hello , world ! it ' s naive ."


def test_hard_texts_have_transformers_ids(gpt1: Tokenizer, theirs, hard_texts: list[str]):
    for text in hard_texts:
        expected = theirs.encode(text, add_special_tokens=False, split_special_tokens=True)
        assert gpt1.encode(text) == expected
        assert gpt1.decode(expected) == theirs.decode(expected, clean_up_tokenization_spaces=False)
    assert gpt1.encode_batch(hard_texts) == gpt1.encode_batch(hard_texts, threads=1)


@settings(max_examples=200, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_any_text_has_transformers_ids(gpt1: Tokenizer, theirs, text: str):
    assert gpt1.encode(text) == theirs.encode(text, add_special_tokens=False, split_special_tokens=True)


def test_real_text_has_transformers_ids(gpt1: Tokenizer, theirs, data_folder: Path):
    text = (data_folder / "the-verdict.txt").read_text(encoding="utf-8")
    assert gpt1.encode(text) == theirs.encode(text, add_special_tokens=False)


def test_release_form_and_hugging_face_forms_are_one_tokenizer(gpt1: Tokenizer, theirs, gpt1_published: Path, tmp_path: Path):
    theirs.save_pretrained(tmp_path)
    assert (tmp_path / "tokenizer.json").is_file()
    for folder in (gpt1_published, tmp_path):
        other = load_tokenizer(folder)
        assert (other.name, other.fingerprint, other.special_tokens) == ("gpt1", gpt1.fingerprint, gpt1.special_tokens)


def test_added_special_tokens_and_the_end_of_text(data_folder: Path):
    tokenizer = load_tokenizer(data_folder / "gpt1-tokenizer", special_tokens=("<bos>", "<|endoftext|>"))
    assert tokenizer.special_tokens == {"<unk>": 0, "<bos>": 40478, "<|endoftext|>": 40479}
    assert (tokenizer.end_of_text_id, tokenizer.vocab_size) == (40479, 40480)
    assert max(tokenizer.encode("<bos> <|endoftext|> <unk>")) < 40478 and 0 not in tokenizer.encode("<unk>")
    assert tokenizer.decode([40478]) == "<bos>"


def test_a_copy_for_a_worker_process_keeps_content_apart(gpt1: Tokenizer):
    """tokenizers forgets `encode_special_tokens` when it is pickled; <unk> in text must stay text in the copy."""
    copy = pickle.loads(pickle.dumps(gpt1))
    assert copy.encode("a <unk> b") == gpt1.encode("a <unk> b") and 0 not in copy.encode("<unk>")
    assert copy.fingerprint == gpt1.fingerprint
