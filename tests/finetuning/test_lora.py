"""LoRA computes what its merged weights compute, trains A and B alone, and leaves the base as it was, to the bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gpt_kit.config import LoraConfig, ModelConfig
from gpt_kit.errors import ConfigError
from gpt_kit.finetuning import add_lora, lora_tensors
from gpt_kit.model import GPTModel, KVCache, drop, recompute
from gpt_kit.weights import parameter_shapes

BLOCK = ("qkv", "projection", "expand", "contract")
TIED, UNTIED = (*BLOCK, "token_embedding"), (*BLOCK, "token_embedding", "head")
IDS = torch.randint(0, 61, (3, 7), generator=torch.Generator().manual_seed(5))
VARIANTS: list[dict[str, Any]] = [
    {},
    {"norm": "post", "vocab_multiple": 16},
    {"tie_word_embeddings": False, "vocab_multiple": 16, "qkv_bias": False},
    {"position_embedding": "rotary", "scale_embeddings": True},
]


def targets_of(config: ModelConfig) -> tuple[str, ...]:
    return TIED if config.tie_word_embeddings else UNTIED


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("changes", VARIANTS)
def test_the_first_logits_are_the_bases_to_the_bit(
    tiny_config: Callable[..., ModelConfig], random_model: Callable[..., GPTModel], changes: dict[str, Any], bf16: bool
) -> None:
    config = tiny_config(**changes)
    model = random_model(config)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        before = model(IDS)
        add_lora(model, LoraConfig(rank=2, dropout=0.5, targets=targets_of(config)))
        after = model(IDS)
    assert all(tensor.any() for name, tensor in lora_tensors(model).items() if name.endswith("A") != ("token_embedding" in name))
    assert torch.equal(after, before)


@pytest.mark.parametrize("changes", VARIANTS)
def test_logits_losses_and_gradients_are_those_of_the_merged_weights(
    tiny_config: Callable[..., ModelConfig], lora_model: Callable[..., GPTModel], changes: dict[str, Any]
) -> None:
    """The reference is a plain model whose weights are made of W, A and B by the paper's formula, differentiated by autograd."""
    config = tiny_config(**changes)
    model = lora_model(config, targets=targets_of(config))
    plain = GPTModel(config).eval()
    adapters = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters() if "lora_" in name}
    weights: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            continue
        weights[name] = parameter.detach()
        layer = name.removesuffix(".weight")
        if f"{layer}.lora_A" in adapters:
            update = 5 / 3 * adapters[f"{layer}.lora_B"] @ adapters[f"{layer}.lora_A"]
            weights[name] = weights[name] + (update.T if layer == "token_embedding" else update)
    logits = torch.func.functional_call(plain, weights, (IDS,))
    torch.testing.assert_close(model(IDS), logits, rtol=0, atol=2e-5)

    targets = IDS.roll(-1, 1)
    loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")
    loss.backward()
    own_loss = model.loss_sum(IDS, targets)
    own_loss.backward()
    torch.testing.assert_close(own_loss, loss, rtol=1e-6, atol=0)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.testing.assert_close(parameter.grad, adapters[name].grad, rtol=1e-4, atol=2e-4)
        else:
            assert parameter.grad is None, name


@pytest.mark.parametrize("changes", VARIANTS)
def test_saved_merged_the_model_opens_as_any_other_with_the_same_logits(
    tiny_config: Callable[..., ModelConfig], lora_model: Callable[..., GPTModel], changes: dict[str, Any], tmp_path: Path
) -> None:
    config = tiny_config(**changes)
    model = lora_model(config, targets=targets_of(config))
    assert {name: tensor.shape for name, tensor in model.exported_tensors().items()} == parameter_shapes(config)
    model.save_pretrained(tmp_path / "merged")
    again = GPTModel.from_pretrained(tmp_path / "merged")
    assert again.config.tie_word_embeddings == config.tie_word_embeddings
    torch.testing.assert_close(again(IDS), model(IDS), rtol=0, atol=2e-5)


def test_training_moves_the_adapters_and_leaves_the_base_as_it_was_to_the_bit(tiny_config: Callable[..., ModelConfig]) -> None:
    model = GPTModel(tiny_config(residual_dropout=0.1))
    base = {name: parameter.clone() for name, parameter in model.named_parameters()}
    add_lora(model, LoraConfig(rank=4, dropout=0.2, targets=TIED))
    start = {name: tensor.clone() for name, tensor in lora_tensors(model).items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02, weight_decay=0.1)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = model.loss_sum(IDS, IDS)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    parameters = dict(model.named_parameters())
    assert all(torch.equal(parameters[name], tensor) for name, tensor in base.items())
    assert not any(torch.equal(tensor, start[name]) for name, tensor in lora_tensors(model).items())
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 4 * (
        2 * ((24 + 72) + (24 + 24) + (24 + 40) + (40 + 24)) + 61 + 24
    )


@pytest.mark.parametrize("bf16", [False, True])
def test_recomputation_draws_the_dropout_masks_of_the_first_time(
    tiny_config: Callable[..., ModelConfig], lora_model: Callable[..., GPTModel], monkeypatch: pytest.MonkeyPatch, bf16: bool
) -> None:
    """Kept against computed again (blocks of attention included): the loss to the bit, gradients to rounding (the frozen layer's and
    the update's part of one input are added up in another place), and the random state left behind."""
    shape = {"n_embd": 64, "n_head": 2, "n_inner": 96, "max_position_embeddings": 32}
    model = lora_model(tiny_config(**shape, attention_dropout=0.1, residual_dropout=0.1), dropout=0.4, targets=TIED).train()
    ids = torch.randint(0, 61, (2, 32), generator=torch.Generator().manual_seed(5))
    results = []
    for worth_it in (0, 2**40):
        monkeypatch.setattr(recompute, "WORTH_IT", worth_it)
        monkeypatch.setattr(recompute, "LONG", 0)
        model.zero_grad()
        torch.manual_seed(7)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = model.loss_sum(ids, ids)
        loss.backward()
        gradients = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
        results.append([loss.detach(), torch.rand(1), *gradients])
    assert len(results[0]) == 2 + 2 * 9
    assert all(torch.equal(again, kept) for again, kept in zip(results[0][:2], results[1][:2], strict=True))
    for again, kept in zip(results[0][2:], results[1][2:], strict=True):
        assert ((again - kept).norm() / kept.norm()).item() < (0.02 if bf16 else 1e-5)


def test_dropout_hides_inputs_from_a_alone_and_only_in_training(
    tiny_config: Callable[..., ModelConfig], lora_model: Callable[..., GPTModel]
) -> None:
    """Against the formula, with the mask that the same seed draws."""
    layer = lora_model(tiny_config(), dropout=0.4).blocks[1].attention.qkv
    x = torch.randn(2, 5, 24)
    torch.manual_seed(3)
    mask = drop(torch.ones_like(x), 0.4)
    torch.manual_seed(3)
    expected = x @ layer.weight.T + layer.bias + 5 / 3 * (x * mask) @ layer.lora_A.T @ layer.lora_B.T
    torch.testing.assert_close(layer.train()(x), expected, rtol=0, atol=2e-6)
    torch.testing.assert_close(layer.eval()(x), x @ layer.merged_weight().T + layer.bias, rtol=0, atol=2e-6)


def test_cache_and_activation_checkpointing_work_as_before(
    tiny_config: Callable[..., ModelConfig], lora_model: Callable[..., GPTModel]
) -> None:
    model = lora_model(tiny_config(), dropout=0.3, targets=TIED)
    cache = KVCache(model.config, 3)
    with torch.no_grad():
        pieces = [model(IDS[:, :4], cache=cache), *(model(IDS[:, t : t + 1], cache=cache) for t in range(4, 7))]
        torch.testing.assert_close(torch.cat(pieces, 1), model(IDS), rtol=0, atol=1e-5)
    gradients = []
    for model.activation_checkpointing in (False, True):
        model.train().zero_grad()
        torch.manual_seed(1)
        model.loss_sum(IDS, IDS).backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert all(torch.equal(plain, again) for plain, again in zip(*gradients, strict=True))


def test_what_cannot_be_adapted_is_refused(tiny_config: Callable[..., ModelConfig]) -> None:
    model = GPTModel(tiny_config())
    with pytest.raises(ConfigError, match=r"head is its token embedding. Name token_embedding"):
        add_lora(model, LoraConfig(rank=2, targets=("head",)))
    add_lora(model, LoraConfig(rank=0))
    assert not lora_tensors(model)
    assert all(parameter.requires_grad for parameter in model.parameters())
    add_lora(model, LoraConfig(rank=2))
    with pytest.raises(ConfigError, match="has LoRA layers already"):
        add_lora(model, LoraConfig(rank=2))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rank": -1}, "rank must be at least 0"),
        ({"rank": 2, "alpha": 0.0}, "lora.alpha must be above 0"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1"),
        ({"targets": ("qvk",)}, "did you mean 'qkv'"),
        ({"targets": ("qkv", "qkv")}, "each once"),
        ({"targets": ()}, "one layer or more"),
    ],
)
def test_settings_out_of_range_are_named(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        LoraConfig(**settings)
