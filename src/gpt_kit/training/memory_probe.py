"""How much memory a step of training takes: counted, tensor by tensor, without computing or allocating anything.

The forward and backward pass of one micro-batch runs on fake tensors, which know their shape and device and hold no data. Every
storage is counted from its birth to its death, so the highest sum is exactly what the allocator would have to hold at once: weights,
gradients, saved activations, logits blocks. It costs some seconds for any model, micro-batch and device, also where the real thing
would not fit. What no tensor holds (the process itself, scratch of the kernels, gaps in the heap) is `plan`'s to measure.
"""

from __future__ import annotations

import bisect
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
from gpt_kit.model.loss import ROWS_PER_BLOCK
from gpt_kit.runtime import Precision
from gpt_kit.training.optimizers import Optimizers


@dataclass(frozen=True, kw_only=True, slots=True)
class StepMemory:
    """Bytes that the tensors of one step take at its highest point."""

    weights: int
    """The parameters, float32."""
    gradients: int
    """One float32 for each parameter."""
    optimizer: int
    """What the optimizer remembers: two float32 for each parameter with AdamW, two bytes in its 8-bit form, one float32 for the blocks'
    matrices with Muon."""
    activations: int
    """The highest point of a micro-batch's forward and backward pass above all that: grows with its rows."""

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.gradients + self.optimizer + self.activations


class StepCounter:
    """Counts the memory of a step of one model, for micro-batches of any size.

    Every storage has one size or grows with the rows, so what is alive after an operation lies on a straight line over the rows. Two
    small steps give all these lines, and the highest of them is the peak: the same number as counting that step would give. Only the
    loss makes more operations where there are more rows, block after block of one size; they are one line together.
    """

    def __init__(self, model_config: ModelConfig, training: TrainingConfig, precision: Precision, device: torch.device) -> None:
        from torch._subclasses.fake_tensor import FakeTensorMode  # costs a second: only for those who ask

        self._fake, self._precision, self._device = FakeTensorMode(), precision, device
        self._length = model_config.max_position_embeddings
        self._small = max(2, -(-ROWS_PER_BLOCK // self._length))  # windows that fill a block of the loss
        self._live: dict[int, list[int]] = {}
        with self._fake, device:
            self._model = GPTModel(model_config)
            self._model.activation_checkpointing = training.activation_checkpointing
            self._optimizer = Optimizers(self._model, training, device).state_bytes
        self._weights = sum(parameter.nbytes for parameter in self._model.parameters())

    def __call__(self, rows: int) -> StepMemory:
        """One step with micro-batches of `rows` windows."""
        few = self._live_bytes(min(rows, self._small))
        more = self._live_bytes(self._small + 1) if rows > self._small else []
        if len(few) == len(more):
            peak = max(a + (rows - self._small) * (b - a) for a, b in zip(few, more, strict=True))
        else:  # few rows; or other operations where there are more, which is so for one row and two, and not known beyond
            peak = max(self._live_bytes(rows))
        return StepMemory(
            weights=self._weights, gradients=self._weights, optimizer=self._optimizer, activations=max(0, peak - self._weights)
        )

    def _live_bytes(self, rows: int) -> list[int]:
        """After every operation of a forward and backward pass, beside the weights: gradients and activations."""
        if rows not in self._live:
            live = _LiveBytes()
            with self._fake, self._device:
                ids = torch.zeros(rows, self._length, dtype=torch.int64)
                loss_begins = self._model.final_norm.register_forward_hook(lambda *_: live.together())
                with live:
                    with self._precision.autocast():
                        loss = batch_loss_sum(self._model, ids, ids)
                    live.apart()
                    loss.backward()  # type: ignore[no-untyped-call]
                loss_begins.remove()
                self._model.zero_grad()
            self._live[rows] = live.after_operations
        return self._live[rows]


def largest_micro_batch(count: Callable[[int], StepMemory], batch_size: int, free: float) -> int:
    """The most windows, up to the whole batch, whose step fits into `free` bytes; 0 where not even one does."""
    return bisect.bisect_right(range(1, batch_size + 1), free, key=lambda rows: count(rows).total)


def peak_bytes_of(work: Callable[[], None]) -> int:
    """The most bytes that tensors made inside `work` take at once; fake ones count as if they were real."""
    live = _LiveBytes()
    with live:
        work()
    return max(live.after_operations)


class _LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts every storage that an operation brings forth until nobody refers to it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.after_operations = [0]
        self._now = 0
        self._alive: dict[int, Any] = {}
        self._together = False

    def together(self) -> None:
        """From here on, only the highest of all operations is kept."""
        self.after_operations.append(0)
        self._together = True

    def apart(self) -> None:
        """From here on, each is kept again."""
        self._together = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default and _has_no_data(args[0]):
            return True  # the one question that a step asks: is every target scored? Most memory is taken where it is
        known = {id(leaf.untyped_storage()) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and id(leaf.untyped_storage()) not in known:  # not a view, nor written in place
                self._count(leaf.untyped_storage())
        if self._together:
            self.after_operations[-1] = max(self.after_operations[-1], self._now)
        else:
            self.after_operations.append(self._now)
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = id(storage), storage.nbytes()
        if key in self._alive:
            return
        self._alive[key] = weakref.ref(storage, lambda _: self._forget(key, size))
        self._now += size

    def _forget(self, key: int, size: int) -> None:
        if self._alive.pop(key, None) is not None:
            self._now -= size


def _has_no_data(tensor: Tensor) -> bool:
    from torch._subclasses.fake_tensor import is_fake

    return is_fake(tensor)
