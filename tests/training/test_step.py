"""One update: the gradient of the mean loss per scored token, however the batch is split, and nothing at all where it is not finite."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt_kit.config import ModelConfig, TrainingConfig
from gpt_kit.data import Batch
from gpt_kit.errors import DataError
from gpt_kit.model import IGNORE_INDEX, GPTModel
from gpt_kit.runtime import choose_precision
from gpt_kit.training import (
    Optimizers,
    StepReport,
    clip_gradients,
    compute_batch_loss,
    compute_loader_loss,
    optimizer_step,
    train_step_with_gradient_clipping,
)

CPU = torch.device("cpu")
V, B, T = 61, 4, 7


@pytest.fixture
def model(tiny_config: Callable[..., ModelConfig], random_model: Callable[..., GPTModel]) -> GPTModel:
    return random_model(tiny_config()).train()


@pytest.fixture
def batch() -> Batch:
    """Row 0 scores 1 target, row 1 scores 3, the others 7 each."""
    ids = torch.randint(0, V, (B, T + 1), generator=torch.Generator().manual_seed(1))
    targets = ids[:, 1:].clone()
    targets[0, 1:] = IGNORE_INDEX
    targets[1, :4] = IGNORE_INDEX
    return Batch(ids[:, :-1].contiguous(), targets)


def sgd(model: nn.Module, learning_rate: float = 0.5) -> Optimizers:
    """Plain gradient descent behind the same interface, so that a difference in gradients shows as itself in the weights."""
    optimizers = Optimizers(model, TrainingConfig(), CPU)
    optimizers.optimizers = [torch.optim.SGD(model.parameters(), lr=learning_rate)]
    return optimizers


def step(
    model: GPTModel, optimizers: Optimizers, batches: list[Batch], max_grad_norm: float = 0.0, precision: str = "float32"
) -> StepReport:
    chosen = choose_precision(precision, CPU)
    return optimizer_step(model, optimizers, batches, max_grad_norm=max_grad_norm, precision=chosen, device=CPU)


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def same_bits(left: Tensor, right: Tensor) -> bool:
    return torch.equal(left.reshape(-1).view(torch.uint8), right.reshape(-1).view(torch.uint8))  # NaN equals NaN


def mean_loss(model: GPTModel, batch: Batch) -> Tensor:
    return F.cross_entropy(model(batch.inputs).flatten(0, 1), batch.targets.flatten(), ignore_index=IGNORE_INDEX)


@pytest.mark.parametrize("rows", [[4], [1, 3], [3, 1], [1, 1, 1, 1], [2, 2]], ids=str)
def test_splitting_a_batch_does_not_change_the_update(model: GPTModel, batch: Batch, rows: list[int]) -> None:
    """The rows score 1, 3, 7 and 7 targets, so a mean of per-batch means gives another update; the control below shows it."""
    before = weights_of(model)
    mean_loss(model, batch).backward()
    expected = {name: before[name] - 0.5 * parameter.grad for name, parameter in model.named_parameters()}
    parts = [Batch(i, t) for i, t in zip(batch.inputs.split(rows), batch.targets.split(rows), strict=True)]
    report = step(model, sgd(model), parts)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.detach(), expected[name], rtol=0, atol=2e-6, msg=lambda text, n=name: f"{n}: {text}")
    assert report.updated


def test_control_a_mean_of_means_would_be_another_update(model: GPTModel, batch: Batch) -> None:
    mean_loss(model, batch).backward()
    right = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    for part in batch.split(2):
        (mean_loss(model, part) / 2).backward()
    assert max((parameter.grad - right[name]).abs().max() for name, parameter in model.named_parameters()) > 1e-2


def test_the_loss_and_norm_reported_are_those_before_the_update(model: GPTModel, batch: Batch) -> None:
    """Computed on the side with torch's own cross-entropy, over three uneven micro-batches: not the last one's, not a mean of means."""
    loss = mean_loss(model, batch)
    loss.backward()
    norm = torch.cat([parameter.grad.flatten() for parameter in model.parameters()]).norm().item()
    report = step(model, sgd(model), batch.split(3), max_grad_norm=0.01)
    assert report.loss == pytest.approx(loss.item(), rel=1e-6)
    assert report.grad_norm == pytest.approx(norm, rel=1e-5)
    assert report.loss != pytest.approx(mean_loss(model, batch.split(3)[-1]).item(), rel=1e-3)


@pytest.mark.parametrize("share", [0.1, 3.0, None])
def test_gradients_are_clipped_to_their_norm_and_only_downwards(model: GPTModel, batch: Batch, share: float | None) -> None:
    """Above the limit the direction stays and the length becomes the limit; below it, and with 0 (never), nothing changes."""
    mean_loss(model, batch).backward()
    before = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    norm = torch.cat([gradient.flatten() for gradient in before.values()]).norm().item()
    limit = 0.0 if share is None else share * norm
    assert clip_gradients(model.parameters(), limit).item() == pytest.approx(norm, rel=1e-5)
    factor = share if share is not None and share < 1 else 1.0
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, factor * before[name], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
@pytest.mark.parametrize("optimizer", ["adamw", "adamw8bit", "muon"])
def test_an_update_that_is_not_finite_changes_not_one_bit(model: GPTModel, batch: Batch, poison: float, optimizer: str) -> None:
    """Neither a weight nor a moment of the optimizer, with learning rate, decay and momentum all on; and it is said."""
    optimizers = Optimizers(model, TrainingConfig(learning_rate=1e-2, optimizer=optimizer), CPU)
    step(model, optimizers, [batch], max_grad_norm=1.0)
    weights = weights_of(model)
    moments = {name: tensor.clone() for name, tensor in optimizers.state_tensors().items()}
    whole = model.loss_sum
    model.loss_sum = lambda *a, **k: whole(*a, **k) * poison  # type: ignore[method-assign]
    report = step(model, optimizers, batch.split(3), max_grad_norm=1.0)
    assert not report.updated
    assert not math.isfinite(report.loss)
    assert all(same_bits(parameter.detach(), weights[name]) for name, parameter in model.named_parameters())
    after = optimizers.state_tensors()
    assert moments and after.keys() == moments.keys()
    assert all(same_bits(after[name], moment) for name, moment in moments.items())
    model.loss_sum = whole  # type: ignore[method-assign]
    assert step(model, optimizers, [batch], max_grad_norm=1.0).updated
    assert not same_bits(model.final_norm.bias.detach(), weights["final_norm.bias"])


def test_a_finite_loss_with_a_gradient_that_is_not_is_skipped_too(model: GPTModel, batch: Batch) -> None:
    weights = weights_of(model)
    model.final_norm.bias.register_hook(lambda gradient: gradient * float("nan"))
    report = step(model, sgd(model), [batch])
    assert math.isfinite(report.loss) and not report.updated
    assert all(same_bits(parameter.detach(), weights[name]) for name, parameter in model.named_parameters())


def test_an_fp16_overflow_skips_the_update_and_halves_the_scale(model: GPTModel, batch: Batch) -> None:
    precision = choose_precision("fp16", CPU)
    optimizers = Optimizers(model, TrainingConfig(), CPU)
    scale = precision.scaler.get_scale()
    model.final_norm.bias.register_hook(lambda gradient: gradient * float("inf"))
    report = optimizer_step(model, optimizers, [batch], max_grad_norm=1.0, precision=precision, device=CPU)
    assert not report.updated
    assert precision.scaler.get_scale() == scale / 2


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_gives_nearly_the_same_gradient(model: GPTModel, batch: Batch, precision: str) -> None:
    """The direction of the whole gradient within 2 %, in float32 storage, with the loss scale taken out again."""
    exact = step(model, sgd(model, 0.0), [batch])
    right = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
    report = step(model, sgd(model, 0.0), batch.split(3), precision=precision)
    rounded = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
    assert report.updated and rounded.dtype == torch.float32
    assert report.loss == pytest.approx(exact.loss, rel=0.01)
    assert ((rounded - right).norm() / right.norm()).item() < 0.02 * (1 if precision == "fp16" else 2)


def test_a_batch_with_nothing_to_score_is_refused(model: GPTModel, batch: Batch) -> None:
    masked = Batch(batch.inputs, torch.full_like(batch.targets, IGNORE_INDEX))
    with pytest.raises(DataError, match=r"no target of this batch is scored \(all are masked\)"):
        step(model, sgd(model), [masked])
    with pytest.raises(DataError, match="no target of this batch is scored"):
        compute_batch_loss(masked.inputs, masked.targets, model, CPU)
    assert step(model, sgd(model), [masked, batch]).updated  # one empty micro-batch beside a full one is fine


def test_document_ids_reach_the_model(model: GPTModel, batch: Batch) -> None:
    document_ids = (torch.arange(T) >= 3).long().expand(B, -1)
    apart = step(model, sgd(model, 0.0), Batch(batch.inputs, batch.targets, document_ids).split(3)).loss
    together = step(model, sgd(model, 0.0), batch.split(3)).loss
    assert abs(apart - together) > 1e-3


def test_the_batch_loss_is_torchs_mean_cross_entropy(model: GPTModel, batch: Batch) -> None:
    """For the kit's model, for any other module, on a device by name, and with any mark of unscored targets."""
    expected = mean_loss(model, batch)
    torch.testing.assert_close(compute_batch_loss(batch.inputs, batch.targets, model, "cpu"), expected, rtol=1e-6, atol=0)
    other_mark = batch.targets.masked_fill(batch.targets == IGNORE_INDEX, 0)
    scored = (other_mark != 0).sum()
    assert scored <= batch.num_scored
    loss = compute_batch_loss(batch.inputs, other_mark, model, CPU, ignore_index=0)
    torch.testing.assert_close(loss, F.cross_entropy(model(batch.inputs).flatten(0, 1), other_mark.flatten(), ignore_index=0))
    foreign = nn.Sequential(nn.Embedding(V, 5), nn.Linear(5, V))
    torch.testing.assert_close(
        compute_batch_loss(batch.inputs, batch.targets, foreign, CPU),
        F.cross_entropy(foreign(batch.inputs).flatten(0, 1), batch.targets.flatten()),
    )


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.AdamW, torch.optim.RMSprop])
def test_the_small_step_lowers_the_loss_with_any_optimizer(model: GPTModel, batch: Batch, make) -> None:
    """It gives the loss before the update, clips, and leaves the model in training mode."""
    optimizer = make(model.parameters(), lr=0.01)
    model.eval()
    losses = [train_step_with_gradient_clipping(batch.inputs, batch.targets, model, optimizer, CPU, max_grad_norm=1.0) for _ in range(15)]
    assert model.training
    assert losses[-1] < losses[0] - 0.1
    assert train_step_with_gradient_clipping(batch.inputs, batch.targets, model, optimizer, "cpu") == pytest.approx(
        mean_loss(model, batch).item(), abs=1.0
    )


def test_the_small_step_clips_and_reports_the_loss_before_it(model: GPTModel, batch: Batch) -> None:
    before, expected = weights_of(model), mean_loss(model, batch).item()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    loss = train_step_with_gradient_clipping(batch.inputs, batch.targets, model, optimizer, CPU, max_grad_norm=0.01)
    assert loss == pytest.approx(expected, rel=1e-6)
    moved = torch.cat([(parameter.detach() - before[name]).flatten() for name, parameter in model.named_parameters()])
    assert moved.norm().item() == pytest.approx(0.01, rel=1e-3)


def test_the_loader_loss_weighs_tokens_not_batches(model: GPTModel, batch: Batch) -> None:
    """Batches of 1 and of 17 scored targets: the mean over tokens, without dropout or gradients, in the mode it was in."""
    parts = list(zip(batch.inputs.split([1, 3]), batch.targets.split([1, 3]), strict=True))
    loss = compute_loader_loss(parts, model, CPU)
    assert loss == pytest.approx(mean_loss(model, batch).item(), rel=1e-5)
    of_means = sum(mean_loss(model, Batch(*part)).item() for part in parts) / 2
    assert abs(loss - of_means) > 1e-3
    assert model.training
    assert compute_loader_loss(parts, model, CPU, num_batches=1) == pytest.approx(mean_loss(model, Batch(*parts[0])).item(), rel=1e-5)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_loader_with_nothing_to_score_is_refused(model: GPTModel, batch: Batch) -> None:
    nothing = [(batch.inputs, torch.full_like(batch.targets, 9))]
    for loader, options in ((nothing, {"ignore_index": 9}), ([], {}), (nothing, {"num_batches": 0})):
        with pytest.raises(DataError, match="no scored target"):
            compute_loader_loss(loader, model, CPU, **options)
