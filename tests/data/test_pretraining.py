"""The small door to pre-training: windows over one text, with a plain tiktoken.Encoding."""

from __future__ import annotations

import pytest
import tiktoken
import torch

import gpt_kit
from gpt_kit.data import GPTPretrainingDataset, create_pretraining_dataloader
from gpt_kit.errors import DataError
from gpt_kit.tokenizers import load_tokenizer
from gpt_kit.tokenizers.gpt2 import PATTERN, gpt2_ranks

TEXT = "The quick brown fox jumps over the lazy dog, and then it rests. " * 5


@pytest.fixture(scope="module")
def encoding() -> tiktoken.Encoding:
    """GPT-2's encoding as tiktoken.get_encoding("gpt2") gives it, built from the ranks that the kit ships."""
    ranks = gpt2_ranks()
    return tiktoken.Encoding("gpt2", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={"<|endoftext|>": len(ranks)})


@pytest.mark.parametrize(("length", "stride"), [(4, 4), (4, 1), (5, 3), (3, 7), (69, 1), (70, 5)])
def test_window_i_is_tokens_from_i_times_stride(encoding: tiktoken.Encoding, length: int, stride: int) -> None:
    """X = tokens[i·s : i·s + T], Y the same one token later, for every i whose target still fits."""
    tokens = encoding.encode(TEXT)
    dataset = GPTPretrainingDataset(TEXT, encoding, length, stride)
    starts = [start for start in range(0, len(tokens), stride) if start + length + 1 <= len(tokens)]
    assert len(dataset) == len(starts)
    for i, start in enumerate(starts):
        inputs, targets = dataset[i]
        assert inputs.tolist() == tokens[start : start + length]
        assert targets.tolist() == tokens[start + 1 : start + 1 + length]
    assert dataset.unused_tokens == len(tokens) - 1 - (starts[-1] + length)
    with pytest.raises(IndexError):
        dataset[len(starts)]


def test_the_kits_own_tokenizer_gives_the_same(encoding: tiktoken.Encoding) -> None:
    ours, theirs = (GPTPretrainingDataset(TEXT, tokenizer, 6, 2) for tokenizer in (load_tokenizer("gpt2"), encoding))
    assert torch.equal(ours.token_ids, theirs.token_ids)


def test_endoftext_between_documents_becomes_the_end_token(encoding: tiktoken.Encoding) -> None:
    dataset = GPTPretrainingDataset("one two<|endoftext|>three four", encoding, 2, 1)
    expected = [*encoding.encode("one two"), 50256, *encoding.encode("three four")]
    assert dataset.token_ids.tolist() == expected


def test_a_tokenizer_without_an_end_token_reads_the_separator_as_text() -> None:
    tokenizer = gpt_kit.train_tokenizer("char", ["ab<|endoftext|>"])
    assert len(GPTPretrainingDataset("ab<|endoftext|>ab", tokenizer, 2, 1).token_ids) == 17


def test_the_loader_gives_batches_of_inputs_and_targets(encoding: tiktoken.Encoding) -> None:
    loader = create_pretraining_dataloader(TEXT, batch_size=3, max_length=5, stride=5, shuffle=False, tokenizer=encoding)
    batches = list(loader)
    assert len(batches) == len(encoding.encode(TEXT)[:-1]) // 5 // 3
    for inputs, targets in batches:
        assert inputs.shape == targets.shape == (3, 5)
        assert inputs.dtype == torch.int64
    flat = torch.cat([inputs.flatten() for inputs, _ in batches])
    assert flat.tolist() == encoding.encode(TEXT)[: len(flat)]


def test_the_loader_takes_gpt2_when_no_tokenizer_is_named() -> None:
    inputs, _ = next(iter(create_pretraining_dataloader(TEXT, batch_size=1, max_length=4, stride=4, shuffle=False)))
    assert inputs.tolist() == [load_tokenizer("gpt2").encode(TEXT)[:4]]


def test_shuffling_keeps_every_window(encoding: tiktoken.Encoding) -> None:
    torch.manual_seed(0)
    options = {"batch_size": 4, "max_length": 5, "stride": 5, "drop_last": False, "tokenizer": encoding}
    plain, shuffled = ([row for inputs, _ in create_pretraining_dataloader(TEXT, shuffle=s, **options) for row in inputs.tolist()]
                       for s in (False, True))  # fmt: skip
    assert sorted(plain) == sorted(shuffled)
    assert plain != shuffled


def test_a_text_shorter_than_one_window_is_refused_with_the_numbers(encoding: tiktoken.Encoding) -> None:
    count = len(encoding.encode(TEXT))
    assert len(GPTPretrainingDataset(TEXT, encoding, count - 1, 1)) == 1
    with pytest.raises(DataError, match=f"the text has {count} tokens, but one window needs {count + 1}"):
        GPTPretrainingDataset(TEXT, encoding, count, 1)


def test_fewer_windows_than_a_batch_is_refused_rather_than_empty(encoding: tiktoken.Encoding) -> None:
    options = {"max_length": 30, "stride": 30, "batch_size": 9, "tokenizer": encoding}
    with pytest.raises(DataError, match=r"makes 2 windows of 30 tokens, fewer than one batch of 9"):
        create_pretraining_dataloader(TEXT, **options)
    assert len(list(create_pretraining_dataloader(TEXT, drop_last=False, **options))) == 1


@pytest.mark.parametrize(("length", "stride"), [(0, 1), (4, 0), (-1, 2)])
def test_lengths_and_strides_below_one_are_refused(encoding: tiktoken.Encoding, length: int, stride: int) -> None:
    with pytest.raises(DataError, match=f"must be at least 1; got {length} and {stride}"):
        GPTPretrainingDataset(TEXT, encoding, length, stride)


@pytest.mark.parametrize("batch_size", [0, -2])
def test_a_batch_size_below_one_is_refused(encoding: tiktoken.Encoding, batch_size: int) -> None:
    with pytest.raises(DataError, match=f"batch_size must be at least 1; got {batch_size}"):
        create_pretraining_dataloader(TEXT, batch_size, 4, 4, tokenizer=encoding)
