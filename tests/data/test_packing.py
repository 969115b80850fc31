"""Examples in rows: nothing lost, nothing crossing, and the same update as one example a row."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch

from gpt_kit.config import ModelConfig
from gpt_kit.data import Example, ExampleBatches, ExampleEvaluation, packed
from gpt_kit.model import IGNORE_INDEX, GPTModel


def examples(lengths: list[int], seed: int = 0) -> list[Example]:
    """Ids drawn at random, of which the second half is learned."""
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randint(0, 61, (length,), generator=generator).tolist() for length in lengths]
    return [Example(ids, [i >= len(ids) // 2 for i in range(len(ids))]) for ids in rows]


def test_packing_changes_nothing_but_the_number_of_rows(
    tiny_config: Callable[..., ModelConfig], random_model: Callable[..., GPTModel]
) -> None:
    """Loss and every gradient of rows that hold several examples, against each example alone."""
    model = random_model(tiny_config(max_position_embeddings=16))
    some = examples([5, 12, 3, 9, 7, 2, 16])
    together = packed(some, 16)
    assert len(together.inputs) < len(some)
    model.loss_sum(together.inputs, together.targets, document_ids=together.document_ids).backward()
    found = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    for example in some:
        alone = packed([example], 16)
        assert alone.document_ids is None
        model.loss_sum(alone.inputs, alone.targets).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-4, atol=1e-5, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.parametrize("seed", range(5))
def test_every_learned_token_is_scored_once_and_follows_its_own_example(seed: int) -> None:
    lengths = torch.randint(2, 40, (30,), generator=torch.Generator().manual_seed(seed)).tolist()
    some = examples(lengths, seed)
    batch = packed(some, 39)
    assert batch.num_scored == sum(example.num_trained for example in some)
    wanted = sorted((example.ids[i - 1], example.ids[i]) for example in some for i in range(1, len(example.ids)) if example.trained[i])
    scored = batch.targets != IGNORE_INDEX
    assert sorted(zip(batch.inputs[scored].tolist(), batch.targets[scored].tolist(), strict=True)) == wanted


def test_an_epoch_has_every_example_once_in_a_new_order() -> None:
    some = [Example([1, 10 + i], [False, True]) for i in range(12)]
    batches = ExampleBatches(some, batch_size=4, max_length=8, seed=1)
    epochs = [
        [sorted(batches.batch(n).targets[batches.batch(n).targets > 0].tolist()) for n in range(start, start + 3)] for start in (0, 3)
    ]
    assert [sorted(itertools.chain(*epoch)) for epoch in epochs] == [list(range(10, 22))] * 2
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_shares_of_several_processes_are_equally_tall_and_make_the_whole(size: int) -> None:
    batches = ExampleBatches(examples([200, 30, 90, 250, 120, 60, 11]), batch_size=5, max_length=256, seed=3)
    for number in range(4):
        shares = [batches.batch(number, rank, size) for rank in range(size)]
        assert len({share.inputs.shape for share in shares}) == 1
        assert sum(share.num_scored for share in shares) == batches.batch(number).num_scored


def test_validation_has_every_example_once() -> None:
    some = examples([9, 30, 4, 17, 25])
    batches = ExampleEvaluation(some, batch_size=2, max_length=32)
    assert len(list(batches)) == len(batches) == 3
    assert sum(batch.num_scored for batch in batches) == sum(example.num_trained for example in some)
