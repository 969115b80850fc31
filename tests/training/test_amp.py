"""The small mixed-precision door: learns in every format, on the CPU too, with any torch optimizer; its scale is part of a run."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gpt_kit import AMPTrainer
from gpt_kit.config import ModelConfig
from gpt_kit.errors import DataError, DeviceError
from gpt_kit.model import GPTModel

OPTIMIZERS = [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop, torch.optim.Adagrad, torch.optim.NAdam]


@pytest.fixture
def model(tiny_config: Callable[..., ModelConfig], random_model: Callable[..., GPTModel]) -> GPTModel:
    return random_model(tiny_config(), std=0.1)


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    ids = torch.randint(0, 61, (3, 9), generator=torch.Generator().manual_seed(2))
    return ids[:, :-1].contiguous(), ids[:, 1:].contiguous()


def snapshot(model: GPTModel) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", None, "auto"])
def test_every_format_learns(model: GPTModel, batch: tuple[Tensor, Tensor], dtype: str | None) -> None:
    trainer = AMPTrainer(dtype, init_scale=2.0**10)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = [trainer.train_step(*batch, model, optimizer, "cpu") for _ in range(40)]
    assert losses[-1] < 0.3 * losses[0]
    assert all(parameter.dtype == torch.float32 and parameter.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("make", OPTIMIZERS)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_any_torch_optimizer_will_do(model: GPTModel, batch: tuple[Tensor, Tensor], make, dtype: str) -> None:
    trainer = AMPTrainer(dtype, init_scale=2.0**10)
    optimizer = make(model.parameters(), lr=0.02 if make is not torch.optim.SGD else 0.3)
    losses = [trainer.train_step(*batch, model, optimizer, torch.device("cpu")) for _ in range(15)]
    assert losses[-1] < losses[0] - 0.1


def test_the_loss_is_that_before_the_update_and_gradients_are_clipped(model: GPTModel, batch: tuple[Tensor, Tensor]) -> None:
    before = snapshot(model)
    expected = F.cross_entropy(model(batch[0]).flatten(0, 1), batch[1].flatten()).item()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    loss = AMPTrainer("float16", init_scale=2.0**10).train_step(*batch, model, optimizer, "cpu", max_grad_norm=0.01)
    assert loss == pytest.approx(expected, rel=0.01)
    moved = torch.cat([(new - old).flatten() for new, old in zip(snapshot(model), before, strict=True)])
    assert moved.norm().item() == pytest.approx(0.01, rel=0.02), "clipped before the scale was taken out, this would be far less"


def test_switched_off_it_is_plain_float32(model: GPTModel, batch: tuple[Tensor, Tensor]) -> None:
    twin = GPTModel(model.config)
    twin.load_tensors(model.exported_tensors())
    for trainer, net in ((AMPTrainer("float16", enabled=False), model), (AMPTrainer("float32"), twin)):
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        trainer.train_step(*batch, net, optimizer, "cpu")
        assert trainer.state_dict() == {}
    assert all(torch.equal(a, b) for a, b in zip(snapshot(model), snapshot(twin), strict=True))


def test_a_float16_overflow_skips_the_update_and_lowers_the_scale(model: GPTModel, batch: tuple[Tensor, Tensor]) -> None:
    trainer = AMPTrainer("float16", init_scale=2.0**60)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    before = snapshot(model)
    trainer.train_step(*batch, model, optimizer, "cpu")
    assert all(torch.equal(a, b) for a, b in zip(snapshot(model), before, strict=True))
    assert trainer.state_dict()["scale"] == 2.0**59
    for _ in range(60):
        trainer.train_step(*batch, model, optimizer, "cpu")
    assert not torch.equal(snapshot(model)[0], before[0]), "the scale falls until updates go through"


def test_the_scale_survives_a_restart_and_grows_where_it_left_off(model: GPTModel, batch: tuple[Tensor, Tensor]) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    trainer = AMPTrainer("float16", init_scale=64.0, growth_interval=5)
    for _ in range(3):
        trainer.train_step(*batch, model, optimizer, "cpu")
    resumed = AMPTrainer("float16", init_scale=2.0, growth_interval=5)
    resumed.load_state_dict(trainer.state_dict())
    scales = []
    for _ in range(3):
        resumed.train_step(*batch, model, optimizer, "cpu")
        scales.append(resumed.state_dict()["scale"])
    assert scales == [64.0, 128.0, 128.0]
    AMPTrainer("bfloat16").load_state_dict({})  # what a run without a scale has saved


def test_masked_targets_are_not_scored_and_none_at_all_is_refused(model: GPTModel, batch: tuple[Tensor, Tensor]) -> None:
    inputs, targets = batch
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    masked = targets.clone()
    masked[:, 2:] = 60
    expected = F.cross_entropy(model(inputs)[:, :2].flatten(0, 1), masked[:, :2].flatten()).item()
    loss = AMPTrainer("float32").train_step(inputs, masked, model, optimizer, "cpu", ignore_index=60)
    assert loss == pytest.approx(expected, rel=1e-5)
    with pytest.raises(DataError, match="no target of this batch is scored"):
        AMPTrainer("float32").train_step(inputs, torch.full_like(targets, -100), model, optimizer, "cpu")


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(DeviceError, match="unknown dtype 'int8'; expected float16, bfloat16, float32 or auto"):
        AMPTrainer("int8")
