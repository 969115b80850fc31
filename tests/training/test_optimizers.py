"""Who decays, who goes to Muon, and a state that crosses the disk bit by bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gpt_kit.config import ModelConfig, TrainingConfig
from gpt_kit.errors import CheckpointError
from gpt_kit.files import read_tensors, write_tensors
from gpt_kit.model import GPTModel
from gpt_kit.runtime import choose_precision
from gpt_kit.training import Optimizers

CPU = torch.device("cpu")
SCALER = choose_precision("float32", CPU).scaler


@pytest.fixture
def model(tiny_config: Callable[..., ModelConfig], random_model: Callable[..., GPTModel]) -> GPTModel:
    return random_model(tiny_config(tie_word_embeddings=False))


def names_in(optimizers: Optimizers, number: int) -> set[str]:
    groups = optimizers.optimizers[number].param_groups
    return {optimizers.names[parameter] for group in groups for parameter in group["params"]}


def update(model: GPTModel, optimizers: Optimizers, seed: int) -> None:
    ids = torch.randint(0, 61, (3, 8), generator=torch.Generator().manual_seed(seed))
    optimizers.zero_grad()
    (model.loss_sum(ids, ids.roll(-1, 1)) / ids.numel()).backward()
    optimizers.step(SCALER)


@pytest.mark.parametrize("optimizer", ["adamw", "adamw8bit", "muon"])
def test_norms_and_biases_never_decay_and_matrices_do(model: GPTModel, optimizer: str) -> None:
    """With gradients of zero an update is decay alone: norms and biases keep every bit, every matrix shrinks by lr · decay."""
    config = TrainingConfig(optimizer=optimizer, learning_rate=0.1, muon_learning_rate=0.1, weight_decay=0.5)
    optimizers = Optimizers(model, config, CPU)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizers.step(SCALER)
    for name, parameter in model.named_parameters():
        if parameter.ndim < 2:
            assert "norm" in name or name.endswith("bias")
            assert torch.equal(parameter.detach(), before[name]), name
        else:
            torch.testing.assert_close(parameter.detach(), before[name] * (1 - 0.1 * 0.5), rtol=1e-6, atol=0, msg=name)


def test_muon_gets_the_matrices_of_the_blocks_and_nothing_else(model: GPTModel) -> None:
    """Not the embeddings, not the untied head, which are matrices too."""
    optimizers = Optimizers(model, TrainingConfig(optimizer="muon"), CPU)
    layers = ("attention.qkv", "attention.projection", "feed_forward.expand", "feed_forward.contract")
    assert names_in(optimizers, 1) == {f"blocks.{i}.{layer}.weight" for i in range(2) for layer in layers}
    everything = {name for name, _ in model.named_parameters()}
    assert names_in(optimizers, 0) == everything - names_in(optimizers, 1)
    assert {"token_embedding.weight", "position_embedding.weight", "head.weight"} <= names_in(optimizers, 0)


def test_adamw_gets_everything_once(model: GPTModel) -> None:
    optimizers = Optimizers(model, TrainingConfig(), CPU)
    assert len(optimizers.optimizers) == 1
    assert names_in(optimizers, 0) == {name for name, _ in model.named_parameters()}
    assert sum(len(group["params"]) for group in optimizers.optimizers[0].param_groups) == len(list(model.parameters()))


def test_frozen_parameters_are_left_out(model: GPTModel) -> None:
    model.token_embedding.requires_grad_(False)
    optimizers = Optimizers(model, TrainingConfig(optimizer="muon"), CPU)
    assert "token_embedding.weight" not in optimizers.names.values()


def test_adamw_is_its_published_formula(model: GPTModel) -> None:
    """Three updates of one matrix and one bias by hand (Loshchilov & Hutter 2019, algorithm 2)."""
    config = TrainingConfig(learning_rate=0.01, weight_decay=0.2, beta1=0.8, beta2=0.9)
    optimizers = Optimizers(model, config, CPU)
    followed = {"blocks.1.feed_forward.expand.weight": 0.2, "blocks.1.feed_forward.expand.bias": 0.0}
    weights = {name: model.get_parameter(name).detach().clone().double() for name in followed}
    first, second = ({name: torch.zeros_like(weight) for name, weight in weights.items()} for _ in range(2))
    for t in range(1, 4):
        update(model, optimizers, seed=t)
        for name, decay in followed.items():
            gradient = model.get_parameter(name).grad.double()
            first[name] = 0.8 * first[name] + 0.2 * gradient
            second[name] = 0.9 * second[name] + 0.1 * gradient**2
            step = (first[name] / (1 - 0.8**t)) / ((second[name] / (1 - 0.9**t)).sqrt() + 1e-8)
            weights[name] -= 0.01 * (step + decay * weights[name])
    for name, expected in weights.items():
        torch.testing.assert_close(model.get_parameter(name).detach().double(), expected, rtol=0, atol=1e-6, msg=name)


def test_a_share_scales_every_learning_rate_from_its_own_highest(model: GPTModel) -> None:
    optimizers = Optimizers(model, TrainingConfig(optimizer="muon", learning_rate=0.4, muon_learning_rate=0.02), CPU)
    for share in (0.5, 0.25, 1.0):
        optimizers.set_learning_rate_share(share)
        assert optimizers.learning_rate == 0.4 * share
        assert [group["lr"] for o in optimizers.optimizers for group in o.param_groups] == [0.4 * share, 0.4 * share, 0.02 * share]


@pytest.mark.parametrize("optimizer", ["adamw", "adamw8bit", "muon"])
def test_state_goes_to_disk_and_back_bit_by_bit(model: GPTModel, tmp_path: Path, optimizer: str) -> None:
    """Three updates, save, a new object, two more updates: every weight as if there had been no break."""
    config = TrainingConfig(optimizer=optimizer, learning_rate=1e-2)
    optimizers = Optimizers(model, config, CPU)
    for seed in range(3):
        update(model, optimizers, seed)
    write_tensors(tmp_path / "optimizer.safetensors", optimizers.state_tensors())
    twin = GPTModel(model.config).eval()
    twin.load_tensors(model.exported_tensors())
    resumed = Optimizers(twin, config, CPU)
    resumed.load_state_tensors(read_tensors(tmp_path / "optimizer.safetensors"))
    saved, loaded = optimizers.state_tensors(), resumed.state_tensors()
    assert saved.keys() == loaded.keys() and len(saved) > len(list(model.parameters()))
    assert all(torch.equal(saved[name], loaded[name]) for name in saved)
    for seed in (3, 4):
        update(model, optimizers, seed)
        update(twin, resumed, seed)
    for (name, left), right in zip(model.named_parameters(), twin.parameters(), strict=True):
        assert torch.equal(left, right), name


def test_state_of_another_model_is_refused_by_name(model: GPTModel) -> None:
    optimizers = Optimizers(model, TrainingConfig(), CPU)
    update(model, optimizers, 0)
    tensors = optimizers.state_tensors()
    tensors["blocks.9.attention.qkv.weight/exp_avg"] = torch.zeros(72, 24)
    with pytest.raises(CheckpointError, match=r"blocks\.9\.attention\.qkv\.weight, which this model does not have"):
        optimizers.load_state_tensors(tensors)


@pytest.mark.parametrize(("saved_by", "loaded_by"), [("adamw", "muon"), ("muon", "adamw"), ("adamw", "adamw8bit"), ("adamw8bit", "adamw")])
def test_state_of_another_optimizer_is_refused(model: GPTModel, saved_by: str, loaded_by: str) -> None:
    """Resumed with another --training.optimizer, momentum would be lost in silence, or the first update would crash."""
    optimizers = Optimizers(model, TrainingConfig(optimizer=saved_by), CPU)
    update(model, optimizers, 0)
    with pytest.raises(CheckpointError, match="optimizer"):
        Optimizers(model, TrainingConfig(optimizer=loaded_by), CPU).load_state_tensors(optimizers.state_tensors())
