"""Windows and batches: no token is left out, none is scored twice, and batch n depends on (seed, n) alone."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt_kit.data import Batch, EvaluationBatches, TokenArray, TrainingBatches
from gpt_kit.data.batches import IGNORED, make_batch
from gpt_kit.errors import InputError


def tokens_of(count: int, first: int = 1000) -> TokenArray:
    """Ids that say where they stand, in three parts."""
    ids = np.arange(first, first + count, dtype=np.uint16)
    return TokenArray(np.split(ids, [count // 3, count // 2]))


@pytest.mark.parametrize("count", [8, 9, 13, 14, 15, 16, 50, 99])
@pytest.mark.parametrize("stride", [0, 1, 3, 7])
def test_every_token_is_a_target_every_epoch_the_tail_included(count: int, stride: int) -> None:
    """Over exactly one epoch of windows every token but the first is a target; without overlap only the last window repeats some."""
    batches = TrainingBatches(tokens_of(count), length=7, batch_size=1, seed=4, stride=stride)
    windows = batches.windows_per_epoch
    for epoch in (0, 3):
        targets = Counter(t for n in range(windows) for t in batches.batch(epoch * windows + n).targets.flatten().tolist())
        assert set(targets) == set(range(1001, 1000 + count))
        if stride in (0, 7):
            assert sum(targets.values()) - len(targets) < 7
    assert batches.epoch_of(windows) == 1.0


@pytest.mark.parametrize("order", ["shuffled", "random"])
def test_targets_are_the_inputs_one_token_later(order) -> None:
    batch = TrainingBatches(tokens_of(60), length=7, batch_size=5, seed=1, order=order).batch(3)
    assert batch.inputs.shape == batch.targets.shape == (5, 7)
    assert batch.inputs.dtype == batch.targets.dtype == torch.int64
    assert torch.equal(batch.targets, batch.inputs + 1)  # ids count upwards
    assert torch.equal(batch.inputs[:, 1:], batch.targets[:, :-1])
    assert batch.num_scored == 35
    assert batch.document_ids is None


@pytest.mark.parametrize("order", ["shuffled", "random"])
def test_a_batch_is_a_pure_function_of_seed_and_number(order) -> None:
    """Asked again, by a new object, in any order: the same. Another seed: another order."""
    first, again, other = (TrainingBatches(tokens_of(200), length=7, batch_size=4, seed=s, order=order) for s in (1, 1, 2))
    late = first.batch(17).inputs
    assert all(torch.equal(first.batch(n).inputs, again.batch(n).inputs) for n in (17, 0, 3))
    assert torch.equal(first.batch(17).inputs, late)
    assert not torch.equal(torch.cat([first.batch(n).inputs for n in range(5)]), torch.cat([other.batch(n).inputs for n in range(5)]))


def test_batch_size_does_not_change_the_order_of_windows() -> None:
    small, large = (TrainingBatches(tokens_of(200), length=7, batch_size=rows, seed=1) for rows in (2, 6))
    assert torch.equal(torch.cat([small.batch(n).inputs for n in range(3)]), large.batch(0).inputs)


def test_random_windows_start_anywhere_that_fits() -> None:
    batches = TrainingBatches(tokens_of(12), length=7, batch_size=50, seed=1, order="random")
    starts = set((batches.batch(0).inputs[:, 0] - 1000).tolist())
    assert starts == {0, 1, 2, 3, 4}  # the last target is then token 11, the last one


def test_a_text_shorter_than_one_window_is_refused_with_the_numbers() -> None:
    TrainingBatches(tokens_of(8), length=7, batch_size=1, seed=0)
    with pytest.raises(InputError, match=re.escape("has 7 tokens, but one window needs 8")):
        TrainingBatches(tokens_of(7), length=7, batch_size=1, seed=0)


@settings(max_examples=150, deadline=None)
@given(
    count=st.integers(2, 60),
    length=st.integers(1, 12),
    overlap=st.integers(0, 11),
    rows=st.integers(1, 4),
    max_tokens=st.integers(0, 70),
)
def test_evaluation_scores_every_target_exactly_once(count: int, length: int, overlap: int, rows: int, max_tokens: int) -> None:
    """For any stride up to the context and any limit; and each scored token stands behind its own context."""
    stride = max(1, length - overlap)
    batches = EvaluationBatches(tokens_of(count), length=length, batch_size=rows, stride=stride, max_tokens=max_tokens)
    produced = list(batches)
    assert len(produced) == len(batches)
    expected = min(count - 1, max_tokens) if max_tokens else count - 1
    scored = [t for batch in produced for t in batch.targets[batch.targets != IGNORED].tolist()]
    assert scored == list(range(1001, 1001 + expected))
    for batch in produced:
        mask = batch.targets != IGNORED
        assert torch.equal(batch.inputs[mask] + 1, batch.targets[mask])
        assert batch.inputs.min() >= 0
        assert len(batch.inputs) <= rows and batch.inputs.shape[1] == length
    for number, row in enumerate(row for batch in produced for row in batch.targets):
        if number:  # all but the first window: at least length - stride tokens of context before the first scored one
            assert (row[: length - stride] == IGNORED).all()


def test_a_stride_beyond_the_context_is_refused() -> None:
    """It would leave tokens between the windows unscored and call the rest the loss of the text."""
    with pytest.raises(InputError, match="stride"):
        list(EvaluationBatches(tokens_of(50), length=7, batch_size=2, stride=9))


def test_a_training_stride_beyond_the_context_is_refused() -> None:
    """It would leave tokens between the windows that no epoch ever reads."""
    with pytest.raises(InputError, match="stride of 8 over windows of 7"):
        TrainingBatches(tokens_of(50), length=7, batch_size=2, seed=0, stride=8)


def test_evaluation_is_the_same_every_time() -> None:
    batches = EvaluationBatches(tokens_of(40), length=7, batch_size=2, stride=3)
    for first, second in zip(batches, batches, strict=True):
        assert torch.equal(first.inputs, second.inputs) and torch.equal(first.targets, second.targets)


def test_a_validation_text_of_one_token_is_refused() -> None:
    with pytest.raises(InputError, match="has 1 tokens; at least 2 are needed"):
        EvaluationBatches(tokens_of(1), length=7, batch_size=2)


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 9])
def test_splitting_keeps_every_row_in_order(rows: int) -> None:
    batch = make_batch(np.arange(7 * 5).reshape(7, 5), document_separator=12)
    parts = batch.split(rows)
    assert [len(part.inputs) for part in parts[:-1]] == [rows] * (len(parts) - 1)
    for name in ("inputs", "targets", "document_ids"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(batch, name))
    assert sum(part.num_scored for part in parts) == batch.num_scored == 28


def test_document_ids_change_at_every_separator() -> None:
    """The separator opens the document after it: it stands with the words it precedes, in inputs and in evaluation alike."""
    ids = np.array([5, 0, 7, 8, 0, 0, 9, 4])
    batch = make_batch(ids[None], document_separator=0)
    assert batch.document_ids.tolist() == [[0, 1, 1, 1, 2, 3, 3]]
    evaluation = next(iter(EvaluationBatches(TokenArray([ids]), length=7, batch_size=1, document_separator=0)))
    assert evaluation.document_ids.tolist() == [[0, 1, 1, 1, 2, 3, 3]]


def test_moving_a_batch_keeps_its_parts() -> None:
    batch = Batch(torch.ones(2, 3), torch.zeros(2, 3), torch.full((2, 3), 5))
    moved = batch.to(torch.device("meta"))
    assert all(part.device.type == "meta" for part in (moved.inputs, moved.targets, moved.document_ids))
    assert Batch(batch.inputs, batch.targets).to(torch.device("cpu")).document_ids is None
