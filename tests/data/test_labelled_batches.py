"""Batches of labelled texts: each text once an epoch whatever is asked for first, little padding, shares that add up."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gpt_kit.data.labelled import LabelledTexts
from gpt_kit.data.labelled_batches import POOL_BATCHES, LabelledBatch, LabelledBatches, LabelledEvaluation, LabelledIds
from gpt_kit.errors import DataError
from gpt_kit.tokenizers import load_tokenizer
from gpt_kit.tokenizers.simple import ByteTokenizer, CharacterTokenizer

BYTE, END, NOT = load_tokenizer("byte"), 256, -100
N, B = 403, 4  # 101 batches: six pools and a part, whose last batches have 3 texts and not 4


def texts(number: int = N, longest: int = 40) -> LabelledTexts:
    """Text i spells its number, so that it can be told from the ids."""
    lengths = np.random.default_rng(0).integers(4, longest, number)
    return LabelledTexts(
        tuple(f"{i:04d}" + "x" * int(length - 4) for i, length in enumerate(lengths)),
        tuple(i % 3 for i in range(number)), ("a", "b", "c"), tuple(f"t:{i + 1}" for i in range(number)),
    )  # fmt: skip


@pytest.fixture
def batches() -> LabelledBatches:
    return LabelledBatches(LabelledIds(texts(), BYTE, 64), batch_size=B, pad_token_id=END, seed=7)


def numbers(batch: LabelledBatch) -> list[int]:
    return [int(bytes(row[:4].tolist())) for row in batch.inputs]


def test_every_text_comes_once_an_epoch_in_an_order_of_its_own(batches: LabelledBatches) -> None:
    epochs = [[numbers(batches.batch(n)) for n in range(e * 101, (e + 1) * 101)] for e in range(3)]
    for epoch in epochs:
        assert sorted(number for batch in epoch for number in batch) == list(range(N))
        assert {len(batch) for batch in epoch} == {B, B - 1}
    assert epochs[0] != epochs[1] != epochs[2]
    assert (batches.epoch_of(101), batches.epoch_of(303)) == (1, 3)


def test_a_batch_depends_on_nothing_but_seed_and_number(batches: LabelledBatches) -> None:
    again = LabelledBatches(LabelledIds(texts(), BYTE, 64), batch_size=B, pad_token_id=END, seed=7)
    for n in (250, 3, 101):
        assert numbers(again.batch(n)) == numbers(batches.batch(n))
    other = LabelledBatches(again.data, batch_size=B, pad_token_id=END, seed=8)
    assert numbers(other.batch(3)) != numbers(batches.batch(3))


def test_texts_of_a_batch_are_alike_and_lengths_come_in_no_order(batches: LabelledBatches) -> None:
    """Padding below a tenth of the places, where batches in plain shuffled order have a third; and no drift from short to long."""
    widths = [batches.batch(n).inputs.shape for n in range(101)]
    places, tokens = sum(rows * width for rows, width in widths), int(batches.data.lengths.sum())
    shuffled = [batches.data.lengths[np.random.default_rng(n).permutation(N)[:B]].max() * B for n in range(101)]
    assert 1 - tokens / places < 0.1 < 0.3 < 1 - tokens / sum(shuffled)
    assert abs(np.corrcoef(range(101), [width for _, width in widths])[0, 1]) < 0.3
    assert batches.tokens_per_batch == round(tokens / 101)


def test_a_row_is_its_text_its_next_tokens_and_its_end() -> None:
    data = LabelledTexts(("abc", "z"), (1, 0), ("no", "yes"), ("t:1", "t:2"))
    batch = LabelledIds(data, BYTE, 8).batch([0, 1], pad_token_id=END)
    assert batch.inputs.tolist() == [[97, 98, 99], [122, END, END]]
    assert batch.targets.tolist() == [[98, 99, END], [END, NOT, NOT]]
    assert (batch.labels.tolist(), batch.last.tolist()) == ([1, 0], [2, 0])
    endless = LabelledIds(data, ByteTokenizer({}), 8).batch([0, 1], pad_token_id=0)
    assert endless.targets.tolist() == [[98, 99, NOT], [NOT, NOT, NOT]]


def test_long_texts_keep_their_beginning_and_are_counted() -> None:
    data = LabelledIds(LabelledTexts(("abcdef", "abcd", "abcde"), (0, 1, 0), ("a", "b"), ("", "", "")), BYTE, 4)
    assert (data.num_cut, [bytes(ids).decode() for ids in data.ids]) == (2, ["abcd", "abcd", "abcd"])


def test_a_text_that_the_tokenizer_leaves_nothing_of_is_named() -> None:
    class Deaf(CharacterTokenizer):
        def _encode(self, text: str) -> list[int]:
            return super()._encode(text.replace("\x01", ""))

    with pytest.raises(DataError, match=r"t:2: the tokenizer leaves nothing of this text \(1 such"):
        LabelledIds(LabelledTexts(("a", "\x01"), (0, 1), ("a", "b"), ("t:1", "t:2")), Deaf("ab"), 4)


@pytest.mark.parametrize("size", [2, 3])
def test_shares_of_several_processes_add_up_to_the_batch(batches: LabelledBatches, size: int) -> None:
    for n in (0, 7, 99):
        whole = batches.batch(n)
        shares = [batches.batch(n, rank, size) for rank in range(size)]
        assert {share.inputs.shape[1] for share in shares} == {whole.inputs.shape[1]} and len({len(share.inputs) for share in shares}) == 1
        counted = [number for share in shares for number, label in zip(numbers(share), share.labels.tolist(), strict=True) if label != NOT]
        assert sorted(counted) == sorted(numbers(whole))
        assert sum(share.num_scored for share in shares) == whole.num_scored


def test_micro_batches_are_no_wider_than_their_longest_text(batches: LabelledBatches) -> None:
    whole = batches.data.batch([3, 200, 77], pad_token_id=END)
    parts = whole.split(1)
    assert [part.inputs.shape for part in parts] == [(1, batches.data.lengths[i]) for i in (3, 200, 77)]
    assert all(torch.equal(part.labels, whole.labels[i : i + 1]) for i, part in enumerate(parts))
    nothing = whole.unscored()
    assert nothing.num_scored == 0 and (nothing.labels == NOT).all() and torch.equal(nothing.inputs, whole.inputs)


def test_an_evaluation_goes_through_all_texts_once_and_knows_their_order(batches: LabelledBatches) -> None:
    evaluation = LabelledEvaluation(batches.data, batch_size=10, pad_token_id=END)
    seen = [number for batch in evaluation for number in numbers(batch)]
    assert seen == evaluation.order.tolist() and sorted(seen) == list(range(N))
    assert len(list(evaluation)) == len(evaluation) == 41
    assert POOL_BATCHES > 1
