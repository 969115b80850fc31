"""How much memory a step of training takes: counted, tensor by tensor, without computing or allocating anything.

The forward and backward pass of one micro-batch runs on fake tensors, which know their shape and device and hold no data. Every
storage is counted from its birth to its death, so the highest sum is exactly what the allocator would have to hold at once: weights,
gradients, saved activations, logits blocks. It costs a second for any model, micro-batch and device, also for one that would not
fit. What no tensor holds (the process itself, scratch of the kernels, gaps in the heap) is `plan`'s to measure.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gpt_kit.config import ModelConfig, TrainingConfig
from gpt_kit.evaluation import batch_loss_sum
from gpt_kit.model import GPTModel
from gpt_kit.runtime import Precision
from gpt_kit.training.optimizers import STATE_KEYS, Optimizers


@dataclass(frozen=True, kw_only=True, slots=True)
class StepMemory:
    """Bytes that the tensors of one step take at its highest point."""

    weights: int
    """The parameters, float32."""
    gradients: int
    """One float32 for each parameter."""
    optimizer: int
    """What the optimizer remembers: two float32 for each parameter with AdamW, one for the blocks' matrices with Muon."""
    activations: int
    """The highest point of a micro-batch's forward and backward pass above all that: grows with its rows."""

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.gradients + self.optimizer + self.activations


def step_memory(model_config: ModelConfig, training: TrainingConfig, rows: int, precision: Precision, device: torch.device) -> StepMemory:
    """Count one step with micro-batches of `rows` windows; `device` must exist, but nothing is allocated on it."""
    from torch._subclasses.fake_tensor import FakeTensorMode  # costs a second: only for those who ask

    with FakeTensorMode(), device:
        model = GPTModel(model_config)
        model.activation_checkpointing = training.activation_checkpointing
        weights = sum(parameter.nbytes for parameter in model.parameters())
        optimizer = sum(
            parameter.nbytes * len(STATE_KEYS[type(part)] - {"step"})
            for part in Optimizers(model, training, device).optimizers
            for group in part.param_groups
            for parameter in group["params"]
        )
        ids = torch.zeros(rows, model_config.max_position_embeddings, dtype=torch.int64)

        def forward_and_backward() -> None:
            with precision.autocast():
                loss = batch_loss_sum(model, ids, ids)
            loss.backward()  # type: ignore[no-untyped-call]

        peak = peak_bytes_of(forward_and_backward)
    return StepMemory(weights=weights, gradients=weights, optimizer=optimizer, activations=max(0, peak - weights))


def largest_micro_batch(
    model_config: ModelConfig, training: TrainingConfig, precision: Precision, device: torch.device, free: float
) -> int:
    """Windows of the largest micro-batch whose step fits into `free` bytes: at most the whole batch, 0 where not even one fits.

    Memory is a straight line over the rows, so two counts are enough.
    """
    whole = training.batch_size
    half = max(1, whole // 2)
    at_half, at_whole = (step_memory(model_config, training, rows, precision, device).total for rows in (half, whole))
    if at_whole <= free:
        return whole
    per_row = (at_whole - at_half) / max(1, whole - half)
    return max(0, half + math.floor((free - at_half) / per_row)) if per_row > 0 else 0


def peak_bytes_of(work: Callable[[], None]) -> int:
    """The most bytes that tensors made inside `work` take at once; fake ones count as if they were real."""
    live = _LiveBytes()
    with live:
        work()
    return live.peak


class _LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts every storage that an operation brings forth until nobody refers to it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = 0
        self.peak = 0
        self._alive: dict[int, Any] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        known = {id(leaf.untyped_storage()) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and id(leaf.untyped_storage()) not in known:  # not a view, nor written in place
                self._count(leaf.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = id(storage), storage.nbytes()
        if key in self._alive:
            return
        self._alive[key] = weakref.ref(storage, lambda _: self._forget(key, size))
        self.now += size
        self.peak = max(self.peak, self.now)

    def _forget(self, key: int, size: int) -> None:
        if self._alive.pop(key, None) is not None:
            self.now -= size
