"""How a batch, and an evaluation, are divided: any number of processes reads the same rows, each once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from gpt_kit.config import ModelConfig
from gpt_kit.data import EvaluationBatches, TokenArray, TrainingBatches
from gpt_kit.evaluation import evaluate_loss
from gpt_kit.model import IGNORE_INDEX, GPTModel
from gpt_kit.runtime import World, choose_precision

T, B = 11, 5
CPU = torch.device("cpu")


class Member(World):
    """One of `size` processes that never talks: its sums are its own."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7])
def test_the_shares_of_all_processes_are_the_batch(size: int) -> None:
    """Rows in order, each scored by one process alone, and every share equally tall; over an epoch each window once."""
    batches = TrainingBatches(TokenArray([np.arange(301)]), length=T, batch_size=B, seed=3)
    seen: list[int] = []
    for number in range(-(-batches.windows_per_epoch // B)):
        whole = batches.batch(number)
        shares = [batches.batch(number, rank, size) for rank in range(size)]
        assert {len(share.inputs) for share in shares} == {-(-B // size)}
        inputs, targets = torch.cat([share.inputs for share in shares]), torch.cat([share.targets for share in shares])
        scored = (targets != IGNORE_INDEX).any(dim=1)
        assert torch.equal(inputs[scored], whole.inputs) and torch.equal(targets[scored], whole.targets)
        seen += inputs[scored][:, 0].tolist()
    first_epoch = seen[: batches.windows_per_epoch]
    assert len(set(first_epoch)) == batches.windows_per_epoch
    assert first_epoch != sorted(first_epoch), "not shuffled, so the order was not put to the test"


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_an_evaluation_is_dealt_out_and_adds_up(
    size: int, tiny_config: Callable[..., ModelConfig], random_model: Callable[..., GPTModel]
) -> None:
    """Five batches: the processes' sums add up to the whole, and all run the model equally often (FSDP2 waits for it)."""
    model = random_model(tiny_config())
    tokens = np.random.default_rng(1).integers(0, 61, 13 * T)
    batches = EvaluationBatches(TokenArray([tokens]), length=T, batch_size=3)
    assert len(batches) == 5
    whole = evaluate_loss(model, batches, precision=choose_precision("float32", CPU), device=CPU)
    reports, calls = [], []
    for rank in range(min(size, 5)):  # a process that gets no batch has nothing to add up, which a lonely one must refuse
        done: list[int] = []
        reports.append(
            evaluate_loss(
                model, batches, precision=choose_precision("float32", CPU), device=CPU, progress=done.append, world=Member(rank, size)
            )
        )
        calls.append(len(done))
    assert sum(report.tokens for report in reports) == whole.tokens
    assert sum(report.nats for report in reports) == pytest.approx(whole.nats, rel=1e-6)
    assert set(calls) == {-(-5 // size)}
