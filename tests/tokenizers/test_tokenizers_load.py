"""Names, foreign objects and damaged folders: each is loaded, or refused in one line that says what to do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tokenizers import AddedToken, models, pre_tokenizers, processors
from tokenizers import Tokenizer as Engine

from gpt_kit.errors import CheckpointError, DataError, TokenizerError
from gpt_kit.tokenizers import (
    Tokenizer,
    as_tokenizer,
    check_same_tokenizer,
    load,
    load_tokenizer,
    measure_fertility,
    train_tokenizer,
)


def words() -> Engine:
    engine = Engine(models.WordLevel({"hello": 0, "world": 1, "[UNK]": 2, "</s>": 3}, unk_token="[UNK]"))
    engine.pre_tokenizer = pre_tokenizers.Whitespace()
    return engine


def test_importing_the_room_imports_none_of_the_heavy_packages():
    code = "import sys, gpt_kit.tokenizers; print([m for m in ('torch', 'numpy', 'tiktoken', 'tokenizers') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["gpt2", "gpt2-small", "gpt2-medium", "gpt2-large", "gpt2-xl", "gpt2-xl (1558M)"])
def test_all_sizes_of_gpt2_share_one_tokenizer(name: str, gpt2: Tokenizer):
    assert load_tokenizer(name).fingerprint == gpt2.fingerprint


@pytest.mark.parametrize("name", ["gpt1", "openai-gpt"])
def test_gpt1_without_a_folder_is_looked_up_on_the_hub(name: str, gpt1: Tokenizer, gpt1_published: Path, monkeypatch):
    asked = []
    monkeypatch.setattr(load, "locate_model", lambda source: asked.append(source) or gpt1_published)
    assert load_tokenizer(name).fingerprint == gpt1.fingerprint
    assert asked == ["openai-community/openai-gpt"]


@pytest.mark.parametrize(("name", "expected"), [("gtp2", "did you mean 'gpt2'"), ("byt", "'byte'"), ("gpt2-smal", "'gpt2-small'")])
def test_a_mistyped_name_gets_a_suggestion_and_no_look_at_the_hub(name: str, expected: str, monkeypatch):
    monkeypatch.setattr(load, "locate_model", lambda _: pytest.fail("asked the hub"))
    with pytest.raises(TokenizerError, match=expected) as caught:
        load_tokenizer(name)
    assert "\n" not in str(caught.value)


def test_an_unknown_name_lists_the_known_ones(monkeypatch):
    def nothing(source: object) -> Path:
        raise CheckpointError(f"{source}: not on the hub")

    monkeypatch.setattr(load, "locate_model", nothing)
    with pytest.raises(TokenizerError, match=r"unknown tokenizer 'wordpiece'.*gpt2, .*not on the hub"):
        load_tokenizer("wordpiece")


@pytest.mark.parametrize("kind", ["char", "bpe"])
def test_kinds_that_must_be_trained_say_so(kind: str):
    with pytest.raises(TokenizerError, match="train_tokenizer"):
        load_tokenizer(kind)


def test_a_run_folder_gives_the_tokenizer_of_its_best_checkpoint(tmp_path: Path, bpe: Tokenizer):
    bpe.save(tmp_path / "checkpoints" / "step-00000100")
    (tmp_path / "checkpoints" / "best").write_text("step-00000100\n")
    assert load_tokenizer(tmp_path).fingerprint == bpe.fingerprint
    assert load_tokenizer(str(tmp_path / "checkpoints" / "step-00000100")).fingerprint == bpe.fingerprint


def test_a_folder_without_a_tokenizer_names_the_files_it_looked_for(tmp_path: Path):
    with pytest.raises(TokenizerError, match=r"tokenizer\.json, vocab\.json \+ merges\.txt"):
        load_tokenizer(tmp_path)
    with pytest.raises(CheckpointError, match="no such folder"):
        load_tokenizer(tmp_path / "missing")


@pytest.mark.parametrize("content", ["{}", "[]", '{"model": {"type": "BPE", "vocab": {}}}', '{"model": 3}'])
def test_a_file_that_is_no_tokenizer_is_refused_with_its_folder(tmp_path: Path, content: str):
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(TokenizerError, match=str(tmp_path)):
        load_tokenizer(tmp_path)


def test_damaged_files_are_refused(tmp_path: Path):
    (tmp_path / "vocab.json").write_text('{"a": 0, "b": 1, "ab": 2}')
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b c\n")
    with pytest.raises(TokenizerError, match="'a b c'"):
        load_tokenizer(tmp_path)
    (tmp_path / "vocab.json").write_text('{"a": 0, ')
    with pytest.raises(DataError, match=r"vocab\.json: not valid JSON"):
        load_tokenizer(tmp_path)


def test_a_foreign_tokenizer_is_wrapped_with_its_roles(tmp_path: Path):
    words().save(str(tmp_path / "tokenizer.json"))
    config = {"eos_token": {"content": "</s>", "__type": "AddedToken"}, "pad_token": "<pad>", "unk_token": "[UNK]"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.special_tokens == {"[UNK]": 2, "</s>": 3, "<pad>": 4}
    assert (tokenizer.end_of_text_id, tokenizer.vocab_size) == (3, 5)
    tokenizer.save(tmp_path / "saved")
    again = load_tokenizer(tmp_path / "saved")
    assert (again.fingerprint, again.end_of_text_id, again.roles) == (tokenizer.fingerprint, 3, tokenizer.roles)


def test_settings_that_would_change_content_are_undone():
    """Truncation, padding, bos from a post-processor: all three are common in published files."""
    engine = words()
    engine.add_special_tokens(["<s>"])
    engine.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 4)])
    engine.enable_truncation(3)
    engine.enable_padding(length=8)
    tokenizer = as_tokenizer(engine)
    assert tokenizer.encode("hello world hello world hello") == [0, 1, 0, 1, 0]
    assert tokenizer.encode_batch(["hello", "hello world"]) == [[0], [0, 1]]
    assert engine.encode("hello").ids != [0]  # the caller's own object keeps its settings


def test_merge_dropout_is_undone():
    engine = Engine(models.BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")], dropout=0.5))
    tokenizer = as_tokenizer(engine)
    assert all(tokenizer.encode("ab") == [2] for _ in range(50))


def test_marks_are_never_read_from_content_but_added_words_are():
    engine = words()
    engine.add_tokens(["<tool_call>", "[INST]", "newword", AddedToken("<ctl>", special=True)])
    tokenizer = as_tokenizer(engine)
    assert sorted(tokenizer.special_tokens) == ["<ctl>", "<tool_call>", "[INST]"]
    marks = set(tokenizer.special_tokens.values())
    assert not marks & set(tokenizer.encode("hello <tool_call> [INST] <ctl> world"))
    assert tokenizer.encode("newword") == [engine.token_to_id("newword")]


def test_as_tokenizer_says_what_it_takes():
    with pytest.raises(TokenizerError, match=r"builtins\.dict .*tiktoken\.Encoding"):
        as_tokenizer({})


def test_another_tokenizer_than_the_one_expected_is_refused(gpt2: Tokenizer):
    check_same_tokenizer(gpt2, gpt2.fingerprint, "data/shards")
    expected = load_tokenizer("byte").fingerprint
    with pytest.raises(TokenizerError) as caught:
        check_same_tokenizer(gpt2, expected, "data/shards")
    message = str(caught.value)
    assert message.startswith("data/shards: ") and expected[:8] in message and gpt2.fingerprint[:8] in message and "gpt2" in message


def test_fertility_counts():
    tokenizer = train_tokenizer("byte", [])
    found = measure_fertility(tokenizer, ["né à", "", "x y"])
    assert (found.bytes, found.characters, found.words, found.tokens) == (9, 7, 4, 9)
    assert (found.bytes_per_token, found.tokens_per_word) == (1.0, 2.25)
    with pytest.raises(DataError, match="no text"):
        measure_fertility(tokenizer, ["", " \n"])
