"""One update of the weights.

    count the scored tokens -> forward and backward per micro-batch -> clip -> update -> report

The gradient is that of the mean loss per scored token over the whole batch, however it is split; and the loss reported is that mean.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from gpt_kit.data import Batch
from gpt_kit.errors import DataError
from gpt_kit.evaluation import LANGUAGE_MODELLING, Objective, batch_loss_sum, evaluation_mode, objective_sums
from gpt_kit.model import IGNORE_INDEX
from gpt_kit.runtime import ALONE, Precision, World
from gpt_kit.training.optimizers import Optimizers, clip_gradients

Device = torch.device | str


@dataclass(frozen=True, slots=True)
class StepReport:
    """What one update did."""

    loss: float
    """Nats per scored token, before the update."""
    grad_norm: float
    """Norm of the gradient, before clipping."""
    updated: bool
    """False where loss or gradient was not finite, or not accepted: weights and optimizer were then left as they were."""
    parts: dict[str, float] = field(default_factory=dict)
    """Of an objective with several parts, the mean of each, by name."""

    @property
    def skipped(self) -> str:
        """Why there was no update: "not finite", or "spike" for what was not accepted; empty where there was one."""
        finite = abs(self.loss) < float("inf") and self.grad_norm < float("inf")  # false for NaN too
        return "" if self.updated else "spike" if finite else "not finite"


def optimizer_step(
    model: nn.Module,
    optimizers: Optimizers,
    micro_batches: Sequence[Batch],
    *,
    max_grad_norm: float,
    precision: Precision,
    device: torch.device,
    world: World = ALONE,
    objective: Objective = LANGUAGE_MODELLING,
    accept: Callable[[float, float], bool] = lambda *_: True,
) -> StepReport:
    """One update over the `micro_batches` of all processes, each having as many as the others.

    There is none where loss or gradient norm is not finite, or `accept(loss, norm)` says no.
    Raises: DataError when none of their targets is scored.
    """
    counted = zip(*(objective.counts(batch) for batch in micro_batches), strict=True)
    _refuse_none((counts := [world.sum(sum(part)) for part in counted])[0])
    optimizers.zero_grad(rounded=precision.name == "bf16" and device.type == "cpu" and len(micro_batches) == world.size == 1)
    total, told = torch.zeros((), device=device), torch.zeros(len(counts), device=device)
    for number, batch in enumerate((micro_batch.to(device) for micro_batch in micro_batches), start=1):
        with world.gradient_sync(model, enabled=number == len(micro_batches)):
            with precision.autocast():
                sums = objective_sums(model, objective, batch)
                loss = objective_loss(objective, sums, counts)
            scaled = precision.scaler.scale(loss * world.size)  # gradients are averaged over processes; world.size undoes it
            scaled.backward()  # type: ignore[no-untyped-call]
        total += loss.detach()
        told += torch.stack(sums).detach()
    optimizers.unscale(precision.scaler)
    grad_norm = optimizers.clip_gradients(max_grad_norm)
    found = torch.cat((torch.stack((world.sum(total), grad_norm.to(total))), world.sum(told)))
    loss_value, norm_value, *told_values = found.tolist()  # one wait for the device, not two
    finite = abs(loss_value) < float("inf") and norm_value < float("inf")  # false for NaN too
    updated = not world.largest(not (finite and accept(loss_value, norm_value)))  # one process's no is everybody's
    if updated:
        optimizers.step(precision.scaler)
    precision.scaler.update()  # fp16: an overflow lowers the loss scale
    parts = {name: value / count for name, value, count in zip(objective.names, told_values, counts, strict=True) if count}
    return StepReport(loss_value, norm_value, updated, parts if len(counts) > 1 else {})


def objective_loss(objective: Objective, sums: Sequence[Tensor], counts: Sequence[float]) -> Tensor:
    """What some micro-batches add to the loss of their batch, of which `counts` are known."""
    parts = [part * share / count for part, count, share in zip(sums, counts, objective.shares, strict=True) if count and share]
    return torch.stack(parts).sum() if len(parts) > 1 else parts[0]


def _refuse_none(num_scored: float) -> float:
    if num_scored == 0:
        raise DataError("no target of this batch is scored (all are masked), so it cannot teach anything. Check how targets are masked")
    return num_scored


def compute_batch_loss(
    input_batch: Tensor, target_batch: Tensor, model: nn.Module, device: Device, ignore_index: int = IGNORE_INDEX
) -> Tensor:
    """Mean cross-entropy in nats of a batch (B, T) over its scored targets: a scalar to call backward on.

    Targets equal to `ignore_index` are not scored. Raises: DataError when none is.
    """
    if ignore_index != IGNORE_INDEX:
        target_batch = target_batch.masked_fill(target_batch == ignore_index, IGNORE_INDEX)
    num_scored = _refuse_none(Batch(input_batch, target_batch).num_scored)
    return batch_loss_sum(model, input_batch.to(device), target_batch.to(device)) / num_scored


def train_step_with_gradient_clipping(
    input_batch: Tensor,
    target_batch: Tensor,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    device: Device,
    max_grad_norm: float = 1.0,
    ignore_index: int = IGNORE_INDEX,
) -> float:
    """One update with any torch optimizer: loss, backward, clip, step. Gives the loss before the update.

    A gradient that is not finite changes nothing. The learning rate is the optimizer's own. Raises: DataError when no target is scored.
    """
    model.train()
    optimizer.zero_grad()
    loss = compute_batch_loss(input_batch, target_batch, model, device, ignore_index)
    loss.backward()  # type: ignore[no-untyped-call]
    if clip_gradients(model.parameters(), max_grad_norm).isfinite():
        optimizer.step()
    return loss.item()


def compute_loader_loss(
    data_loader: DataLoader[Any] | Sequence[tuple[Tensor, Tensor]],
    model: nn.Module,
    device: Device,
    num_batches: int | None = None,
    ignore_index: int = IGNORE_INDEX,
) -> float:
    """Mean cross-entropy in nats per scored token over the first `num_batches` batches (all, if None).

    Tokens weigh equally, whatever the size of their batch. Raises: DataError when there is none to score.
    """
    nats, tokens = 0.0, 0
    with evaluation_mode(model):
        for number, (inputs, targets) in enumerate(data_loader):
            if number == num_batches:
                break
            masked = targets.masked_fill(targets == ignore_index, IGNORE_INDEX)
            tokens += Batch(inputs, masked).num_scored
            nats += batch_loss_sum(model, inputs.to(device), masked.to(device)).item()
    if tokens == 0:
        raise DataError("the loader gives no scored target, so there is no loss to measure. Is its text shorter than one batch?")
    return nats / tokens
