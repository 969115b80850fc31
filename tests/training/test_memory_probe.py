"""What a step takes, counted on fake tensors, beside what torch's own profiler sees of a real one; and quickly for steps of any size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.profiler import ProfilerActivity, profile

from gpt_kit.config import ModelConfig, TrainingConfig
from gpt_kit.evaluation import batch_loss_sum
from gpt_kit.model import GPTModel, count_model
from gpt_kit.runtime import choose_precision
from gpt_kit.training import StepCounter, StepMemory, largest_micro_batch
from gpt_kit.training.memory_probe import peak_bytes_of

CPU = torch.device("cpu")
SIZES = {"n_embd": 64, "n_head": 4, "n_inner": 256, "max_position_embeddings": 64, "vocab_size": 500}


def step_memory(config: ModelConfig, training: TrainingConfig, rows: int, precision: str = "float32") -> StepMemory:
    return StepCounter(config, training, choose_precision(precision, CPU), CPU)(rows)


def allocated_in_a_real_pass(model_config: ModelConfig, rows: int, precision_name: str, checkpointing: bool) -> int:
    """The highest point of the allocator's own account: what was there before is not in it."""
    model, precision = GPTModel(model_config), choose_precision(precision_name, CPU)
    model.activation_checkpointing = checkpointing
    ids = torch.zeros(rows, model_config.max_position_embeddings, dtype=torch.int64)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        with precision.autocast():
            loss = batch_loss_sum(model, ids, ids)
        loss.backward()
    now = peak = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            peak = max(peak, now)
    return peak


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_the_count_is_what_the_allocator_sees(tiny_config: Callable[..., ModelConfig], precision: str, checkpointing: bool) -> None:
    """Gradients and activations of 8 windows within 12 %, in both formats, recomputed or kept: only scratch inside a kernel is missed."""
    dropout = dict.fromkeys(("embedding_dropout", "attention_dropout", "residual_dropout"), 0.1)
    config, training = tiny_config(**SIZES, **dropout), TrainingConfig(activation_checkpointing=checkpointing)
    allocated_in_a_real_pass(config, 8, precision, checkpointing)  # the first pass of a process also fills torch's own tables
    real = allocated_in_a_real_pass(config, 8, precision, checkpointing)
    counted = step_memory(config, training, 8, precision)
    assert 0.88 * real < counted.gradients + counted.activations < 1.01 * real


def test_weights_gradients_and_optimizer_are_the_closed_form(tiny_config: Callable[..., ModelConfig]) -> None:
    """4 bytes a parameter, again as gradient, twice for AdamW, a quarter of that in 8 bits; Muon remembers the blocks' matrices once."""
    config = tiny_config(**SIZES)
    parameters = count_model(config).total_parameters
    adamw = step_memory(config, TrainingConfig(), 1)
    assert (adamw.weights, adamw.gradients, adamw.optimizer) == (4 * parameters, 4 * parameters, 8 * parameters)
    matrices = sum(p.numel() for name, p in GPTModel(config).named_parameters() if name.startswith("blocks") and p.ndim == 2)
    muon = step_memory(config, TrainingConfig(optimizer="muon"), 1)
    assert muon.optimizer == 8 * parameters - 4 * matrices
    small = step_memory(config, TrainingConfig(optimizer="adamw8bit"), 1)
    assert 2 * parameters < small.optimizer < 2.2 * parameters, "blocks have an exponent, and every tensor a step"


def test_counting_a_model_that_would_not_fit_takes_no_memory_and_draws_no_random_number() -> None:
    """Twelve blocks of GPT-2 XL in micro-batches of a million need nine hundred TB; counted here, the random state stays as it was."""
    before = torch.get_rng_state()
    config = ModelConfig(n_embd=1600, n_layer=12, n_head=25)
    assert step_memory(config, TrainingConfig(), 10**6).total > 9e14
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("changes", [{}, {"norm": "post"}, {"position_embedding": "rotary"}, {"vocab_size": 20_000, "n_layer": 1}])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_many_rows_are_counted_from_few(tiny_config: Callable[..., ModelConfig], changes: dict[str, Any], checkpointing: bool) -> None:
    """Not one byte beside what counting that step itself gives. The last model's peak moves from the loss to the blocks on the way."""
    config, precision = tiny_config(**{**SIZES, "residual_dropout": 0.1, **changes}), choose_precision("bf16", CPU)
    count = StepCounter(config, TrainingConfig(activation_checkpointing=checkpointing), precision, CPU)
    with FakeTensorMode():
        model = GPTModel(config)
        model.activation_checkpointing = checkpointing
        for rows in (1, 3, 6, 17, 40):
            ids = torch.zeros(rows, 64, dtype=torch.int64)

            def one_pass(ids: torch.Tensor = ids) -> None:
                with precision.autocast():
                    loss = batch_loss_sum(model, ids, ids)
                loss.backward()
                model.zero_grad()

            assert count(rows).gradients + count(rows).activations == peak_bytes_of(one_pass)


def test_the_largest_micro_batch_fits_and_one_more_does_not(tiny_config: Callable[..., ModelConfig]) -> None:
    count = StepCounter(tiny_config(**SIZES), TrainingConfig(), choose_precision("float32", CPU), CPU)

    def needed(rows: int) -> int:
        return count(rows).total

    for free in (needed(20), needed(41), (needed(50) + needed(51)) // 2):
        rows = largest_micro_batch(count, 64, free)
        assert needed(rows) <= free < needed(rows + 1)
    assert largest_micro_batch(count, 64, needed(64)) == 64
    assert largest_micro_batch(count, 64, 1e12) == 64
    assert largest_micro_batch(count, 64, needed(1) / 4) == 0
    assert largest_micro_batch(count, 1, 10) == 0
    assert largest_micro_batch(count, 2**62, needed(10**7)) == 10**7
