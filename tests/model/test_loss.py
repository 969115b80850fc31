"""The blockwise head-and-loss against torch's cross-entropy over whole logits, and a padded vocabulary that leaves no trace."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

import gpt_kit.model.loss as loss_module
from gpt_kit.config import ModelConfig
from gpt_kit.model import IGNORE_INDEX, GPTModel, linear_cross_entropy_sum
from gpt_kit.model.loss import ROWS_PER_BLOCK

C, V = 5, 13


def inputs(rows: int, ignored: float) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(rows)
    hidden = torch.randn(rows, C, generator=generator, requires_grad=True)
    weight = torch.randn(V, C, generator=generator, requires_grad=True)
    targets = torch.randint(0, V, (rows,), generator=generator)
    targets[torch.rand(rows, generator=generator) < ignored] = IGNORE_INDEX
    return hidden, weight, targets


@pytest.mark.parametrize("rows", [1, 7, ROWS_PER_BLOCK, ROWS_PER_BLOCK + 1, 2 * ROWS_PER_BLOCK + 3])
@pytest.mark.parametrize("ignored", [0.0, 0.4, 1.0])
def test_value_and_gradients_are_those_of_whole_logits(rows: int, ignored: float) -> None:
    """Across block borders, with targets that are not scored, and with none scored at all (0, and gradients of 0)."""
    hidden, weight, targets = inputs(rows, ignored)
    ours = linear_cross_entropy_sum(hidden, weight, targets)
    (0.37 * ours).backward()  # a factor, as mean and fp16 scale give
    found = hidden.grad, weight.grad
    hidden.grad = weight.grad = None
    expected = F.cross_entropy(F.linear(hidden, weight), targets, ignore_index=IGNORE_INDEX, reduction="sum")
    (0.37 * expected).backward()
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found[0], hidden.grad, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found[1], weight.grad, rtol=1e-4, atol=1e-4)
    if ignored == 1.0:
        assert ours.item() == 0.0
        assert not found[0].any() and not found[1].any()


@pytest.mark.parametrize("block", [1, 4, 1000])
def test_the_size_of_a_block_changes_nothing(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, weight, targets = inputs(9, 0.3)
    expected = linear_cross_entropy_sum(hidden, weight, targets)
    monkeypatch.setattr(loss_module, "ROWS_PER_BLOCK", block)
    torch.testing.assert_close(linear_cross_entropy_sum(hidden, weight, targets), expected, rtol=1e-6, atol=1e-5)


def test_shapes_of_any_rank_and_frozen_inputs() -> None:
    """(B, T, C) as well as rows; with one side frozen the other still gets its gradient; without gradients none is kept."""
    hidden, weight, targets = inputs(6, 0.0)
    flat = linear_cross_entropy_sum(hidden, weight, targets)
    shaped = linear_cross_entropy_sum(hidden.view(2, 3, C), weight, targets.view(2, 3))
    assert torch.equal(flat, shaped)
    linear_cross_entropy_sum(hidden.detach(), weight, targets).backward()
    only_weight = weight.grad
    weight.grad = None
    linear_cross_entropy_sum(hidden, weight.detach(), targets).backward()
    only_hidden = hidden.grad
    hidden.grad = None
    linear_cross_entropy_sum(hidden, weight, targets).backward()
    torch.testing.assert_close(only_weight, weight.grad)
    torch.testing.assert_close(only_hidden, hidden.grad)
    with torch.no_grad():
        assert not linear_cross_entropy_sum(hidden, weight, targets).requires_grad


def test_bf16_autocast_stays_close_and_accumulates_in_float32() -> None:
    hidden, weight, targets = inputs(ROWS_PER_BLOCK + 9, 0.1)
    exact = F.cross_entropy(F.linear(hidden, weight), targets, reduction="sum")
    exact.backward()
    expected = hidden.grad, weight.grad
    hidden.grad = weight.grad = None
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = linear_cross_entropy_sum(hidden, weight, targets)
    rounded.backward()
    assert rounded.dtype == torch.float32
    assert abs(rounded.item() / exact.item() - 1) < 5e-3
    for found, reference in zip((hidden.grad, weight.grad), expected, strict=True):
        assert found.dtype == torch.float32
        assert (found - reference).norm() / reference.norm() < 0.02


def test_fp16_keeps_gradients_that_it_could_not_hold() -> None:
    """Tokens of probability exp(-19) have gradients below fp16's smallest number, 6e-8; the loss scale comes too late for them."""
    hidden = torch.full((4, C), 0.5)
    weight = torch.zeros(V, C)
    weight[0] = 19 / 0.5 / C
    weight.requires_grad_()
    targets = torch.zeros(4, dtype=torch.long)
    with torch.autocast("cpu", dtype=torch.float16):
        loss = linear_cross_entropy_sum(hidden, weight, targets)
    (loss * 2.0**16).backward()
    expected = 2.0**16 * 4 * 0.5 * F.linear(hidden, weight).softmax(-1)[0, 1:, None].expand(-1, C)
    assert (expected / 2.0**16).max() < 6e-8
    torch.testing.assert_close(weight.grad[1:], expected, rtol=0.05, atol=0)


def test_a_second_backward_pass_is_refused_in_words() -> None:
    hidden, weight, targets = inputs(5, 0.0)
    loss = linear_cross_entropy_sum(hidden, weight, targets)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="already taken"):
        loss.backward()


def test_the_models_loss_is_the_cross_entropy_of_its_logits(
    tiny_config: Callable[..., ModelConfig], random_model: Callable[..., GPTModel]
) -> None:
    """loss_sum and forward are two ways to the same number, and the tied embedding gets both of its gradients."""
    model = random_model(tiny_config())
    ids = torch.randint(0, 61, (3, 10), generator=torch.Generator().manual_seed(1))
    targets = ids.roll(-1, dims=1)
    targets[1, 4:] = IGNORE_INDEX
    ours = model.loss_sum(ids, targets)
    ours.backward()
    found = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    expected = F.cross_entropy(model(ids).flatten(0, 1), targets.flatten(), reduction="sum")
    expected.backward()
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=0)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-4, atol=1e-4, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.parametrize("tied", [True, False])
def test_a_padded_vocabulary_leaves_no_trace(
    tiny_config: Callable[..., ModelConfig], random_model: Callable[..., GPTModel], tmp_path: Path, tied: bool
) -> None:
    """61 rows padded to 64: same logits, same loss, no gradient and no place on disk for the three, whatever they hold."""
    plain = random_model(tiny_config(tie_word_embeddings=tied))
    padded = GPTModel(tiny_config(tie_word_embeddings=tied, vocab_multiple=64)).eval()
    padded.load_tensors(plain.exported_tensors())
    with torch.no_grad():
        for name, parameter in padded.named_parameters():
            if len(parameter) == 64:
                parameter[61:] = 50.0
                assert name in ("token_embedding.weight", "head.weight")
    ids = torch.randint(0, 61, (2, 7), generator=torch.Generator().manual_seed(9))
    assert padded.token_embedding.weight.shape == (64, 24)
    assert padded(ids).shape == (2, 7, 61)
    torch.testing.assert_close(padded(ids), plain(ids), rtol=0, atol=1e-6)
    loss = padded.loss_sum(ids, ids.roll(-1, 1))
    torch.testing.assert_close(loss, plain.loss_sum(ids, ids.roll(-1, 1)), rtol=1e-6, atol=0)
    loss.backward()
    assert not padded.token_embedding.weight.grad[61:].any()
    assert {name: tensor.shape for name, tensor in padded.exported_tensors().items()} == {
        name: tensor.shape for name, tensor in plain.exported_tensors().items()
    }
    padded.save_pretrained(tmp_path / "model")
    assert load_file(tmp_path / "model" / "model.safetensors")["transformer.wte.weight"].shape == (61, 24)
    again = GPTModel.from_pretrained(tmp_path / "model")
    torch.testing.assert_close(again(ids), plain(ids), rtol=0, atol=1e-6)


def test_a_tied_matrix_gathers_its_two_gradients_over_several_passes(
    tiny_config: Callable[..., ModelConfig], random_model: Callable[..., GPTModel]
) -> None:
    """Two micro-batches without a step between, against torch's cross-entropy over whole logits."""
    model = random_model(tiny_config(tie_word_embeddings=True))
    ids, targets = torch.randint(0, model.config.vocab_size, (2, 3, 7))
    for _ in range(2):
        model.loss_sum(ids, targets).backward()
    ours = model.token_embedding.weight.grad.clone()
    model.zero_grad()
    for _ in range(2):
        F.cross_entropy(model(ids).flatten(0, 1), targets.flatten(), reduction="sum").backward()
    torch.testing.assert_close(ours, model.token_embedding.weight.grad)


def test_a_tied_matrix_that_is_frozen_gets_no_gradient(tiny_config: Callable[..., ModelConfig]) -> None:
    model = GPTModel(tiny_config(tie_word_embeddings=True))
    model.token_embedding.weight.requires_grad_(False)
    ids = torch.randint(0, model.config.vocab_size, (3, 7))
    model.loss_sum(ids, ids).backward()
    assert model.token_embedding.weight.grad is None
    assert model.blocks[0].attention.qkv.weight.grad is not None
