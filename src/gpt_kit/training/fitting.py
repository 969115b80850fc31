"""How many windows go through the model at once. Fewer need less memory and give the same update (step.py)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from gpt_kit.config import Settings
from gpt_kit.data import Batch
from gpt_kit.errors import DeviceError
from gpt_kit.evaluation import batch_loss_sum
from gpt_kit.model import GPTModel, count_model
from gpt_kit.runtime import Precision, World, free_memory, is_out_of_memory
from gpt_kit.training.memory_probe import StepCounter, StepMemory, largest_micro_batch
from gpt_kit.training.optimizers import Optimizers

Run = TypeVar("Run", bound=Settings)
CPU_FLOPS_AT_ONCE = 2e12  # some seconds of a laptop, and GPT-2 124M on 2,000 tokens: larger products are no faster there
MEMORY_SHARE = 0.9  # of what is free; the rest is left to others
HEAP_ALLOWANCE = 1.3  # of the counted bytes: scratch of the kernels, gaps between blocks


def micro_batch_rows(config: Settings, device: torch.device, width: int = 0) -> int:
    """Windows per forward pass: `training.micro_batch_size`; where that is 0 all of a batch, but on a CPU only some seconds' work.

    `width` is the windows' length in tokens, 0 for the model's context.
    """
    asked, batch_size = config.training.micro_batch_size, config.training.batch_size
    if asked and asked != "auto":
        return min(asked, batch_size)
    if device.type != "cpu":
        return batch_size
    flops_per_window = count_model(config.model).training_flops_per_token * (width or config.model.max_position_embeddings)
    return min(max(int(CPU_FLOPS_AT_ONCE / flops_per_window), 1), batch_size)


def with_fitting_micro_batch(config: Run, precision: Precision, device: torch.device, world: World) -> Run:
    """`training.micro_batch_size` "auto" -> the number that fits into everybody's free memory; other settings are left alone.

    Raises: DeviceError where not even one window does.
    """
    if config.training.micro_batch_size != "auto":
        return config
    free = free_memory(device) // (world.local_size if device.type == "cpu" else 1)
    count = StepCounter(config.model, config.training, precision, device)
    rows = -world.largest(-affordable_rows(count, config.training.batch_size, free))
    if not rows:
        raise DeviceError(
            f"{free / 1e9:.1f} GB of memory are free on {device}; not even a micro-batch of one window fits. "
            "Try --training.activation-checkpointing, a smaller model or a shorter context"
        )
    return dataclasses.replace(config, training=dataclasses.replace(config.training, micro_batch_size=rows))


def affordable_rows(count: Callable[[int], StepMemory], batch_size: int, free: int) -> int:
    """Windows of the largest micro-batch for which `free` bytes will do, by counting; 0 for none."""
    return largest_micro_batch(count, batch_size, MEMORY_SHARE * free / HEAP_ALLOWANCE)


def largest_that_fits(model: GPTModel, optimizers: Optimizers, batch: Batch, rows: int, precision: Precision) -> int:
    """The most rows, of `rows`, a half, a quarter …, for which forward and backward find memory; 0 where not even one does.

    Room is held for an optimizer that has no state yet. Weights and optimizer state are left as they are, random states are not.
    """
    reserve: list[Tensor] = []
    while rows:
        try:
            if not optimizers.state_tensors() and not reserve:
                reserve += [torch.empty_like(parameter) for parameter in model.parameters() for _ in range(2)]
            part = batch.split(rows)[0].to(model.device)
            with precision.autocast():
                loss = batch_loss_sum(model, part.inputs, part.targets, part.document_ids)
            precision.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            return rows
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            rows //= 2
        finally:
            optimizers.zero_grad()
    return 0
