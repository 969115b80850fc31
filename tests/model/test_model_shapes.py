"""Shapes with every dimension different, errors that name both shapes, tying, and activation checkpointing."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gpt_kit.config import ModelConfig
from gpt_kit.errors import CheckpointError, InputError
from gpt_kit.model import GELU, FeedForward, GPTModel, LayerNorm, MultiHeadAttention, TransformerBlock
from gpt_kit.weights import parameter_shapes

B, T, C, V = 2, 7, 24, 61


def test_every_layer_keeps_its_shape(tiny_config: Callable[..., ModelConfig]) -> None:
    """B=2, T=7, C=24, H=3, V=61, I=40: no two are equal, so no two can be mixed up."""
    config = tiny_config()
    x = torch.randn(B, T, C)
    for layer in (LayerNorm(C), GELU(), FeedForward(config), MultiHeadAttention(config), TransformerBlock(config)):
        assert layer(x).shape == (B, T, C), type(layer).__name__
    assert GPTModel(config)(torch.zeros(B, T, dtype=torch.long)).shape == (B, T, V)
    assert GPTModel(config).hidden_states(torch.zeros(B, T, dtype=torch.long)).shape == (B, T, C)


@pytest.mark.parametrize(
    "changes",
    [{}, {"norm": "post"}, {"qkv_bias": False}, {"tie_word_embeddings": False}, {"position_embedding": "rotary"}, {"n_inner": 0}],
    ids=str,
)
def test_the_module_has_exactly_the_parameters_its_config_lists(
    tiny_config: Callable[..., ModelConfig], changes: dict[str, object]
) -> None:
    config = tiny_config(**changes)
    found = {name: tuple(tensor.shape) for name, tensor in GPTModel(config).exported_tensors().items()}
    assert found == parameter_shapes(config)


def test_layer_norm_and_gelu_are_their_formulas() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 5, generator=generator)
    norm = LayerNorm(5, epsilon=0.1)
    with torch.no_grad():
        norm.weight.normal_(generator=generator)
        norm.bias.normal_(generator=generator)
        variance = x.var(-1, correction=0, keepdim=True)
        expected = (x - x.mean(-1, keepdim=True)) / (variance + 0.1).sqrt() * norm.weight + norm.bias
        torch.testing.assert_close(norm(x), expected)
    tanh_form = 0.5 * x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3)))
    torch.testing.assert_close(GELU()(x), tanh_form)


def test_embeddings_are_scaled_only_when_asked(tiny_config: Callable[..., ModelConfig], random_model: Callable[..., GPTModel]) -> None:
    """With scale_embeddings a model equals one whose token embeddings are sqrt(C) times larger, apart from the tied head."""
    scaled = random_model(tiny_config(scale_embeddings=True, tie_word_embeddings=False))
    by_hand = random_model(tiny_config(tie_word_embeddings=False))
    with torch.no_grad():
        by_hand.token_embedding.weight *= C**0.5
        ids = torch.arange(T)[None]
        torch.testing.assert_close(scaled(ids), by_hand(ids), rtol=0, atol=1e-5)


def test_too_long_an_input_is_refused_with_both_numbers(tiny_config: Callable[..., ModelConfig]) -> None:
    model = GPTModel(tiny_config())
    assert model(torch.zeros(1, 11, dtype=torch.long)).shape == (1, 11, V)
    with pytest.raises(InputError, match="12 tokens are longer than this model's context of 11"):
        model(torch.zeros(1, 12, dtype=torch.long))


@pytest.mark.parametrize("name", ["token_embedding.weight", "blocks.1.attention.qkv.weight", "final_norm.bias"])
def test_a_wrong_shape_names_the_parameter_and_both_shapes(tiny_config: Callable[..., ModelConfig], name: str) -> None:
    """And nothing is loaded: the model is as it was."""
    model = GPTModel(tiny_config())
    before = {key: tensor.clone() for key, tensor in model.exported_tensors().items()}
    tensors = {key: tensor + 1 for key, tensor in before.items()}
    own = tuple(tensors[name].shape)
    tensors[name] = torch.zeros(5, *own[1:])
    with pytest.raises(CheckpointError) as caught:
        model.load_tensors(tensors)
    for part in (name, str((5, *own[1:])), str(own)):
        assert part in str(caught.value)
    for key, tensor in model.exported_tensors().items():
        assert torch.equal(tensor, before[key]), key


@pytest.mark.parametrize(("extra", "said"), [(True, "unknown to this model"), (False, "missing from what was read")])
def test_a_weight_too_many_or_too_few_is_named(tiny_config: Callable[..., ModelConfig], extra: bool, said: str) -> None:
    model = GPTModel(tiny_config())
    tensors = dict(model.exported_tensors())
    name = "blocks.7.attention.qkv.bias" if extra else "blocks.1.attention.qkv.bias"
    tensors[name] = torch.zeros(72)
    if not extra:
        del tensors[name]
    with pytest.raises(CheckpointError, match=re.escape(f"{name} is {said}")):
        model.load_tensors(tensors)


def test_tied_weights_stay_tied_through_loading_and_saving(
    tiny_config: Callable[..., ModelConfig], random_model: Callable[..., GPTModel], tmp_path: Path
) -> None:
    random_model(tiny_config()).save_pretrained(tmp_path / "tied")
    model = GPTModel.from_pretrained(tmp_path / "tied")
    assert model.head is None
    ids = torch.arange(T)[None]
    before = model(ids)
    with torch.no_grad():
        model.token_embedding.weight[60] += 1.0  # an id that the input does not hold: only the head can notice
    assert (model(ids) - before)[..., 60].abs().min() > 1e-4
    assert torch.equal(model(ids)[..., :60], before[..., :60])


@pytest.mark.parametrize("damage", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_on_opening(
    tiny_config: Callable[..., ModelConfig], random_model: Callable[..., GPTModel], tmp_path: Path, damage: float
) -> None:
    model = random_model(tiny_config())
    with torch.no_grad():
        model.blocks[1].feed_forward.expand.bias[3] = damage
    model.save_pretrained(tmp_path / "model")
    with pytest.raises(CheckpointError, match="not finite"):
        GPTModel.from_pretrained(tmp_path / "model")


def test_activation_checkpointing_gives_the_same_loss_and_gradients(tiny_config: Callable[..., ModelConfig]) -> None:
    """With dropout on: the second computation of a block must draw the dropout of the first."""
    torch.manual_seed(0)
    model = GPTModel(tiny_config(residual_dropout=0.3, attention_dropout=0.3, position_embedding="rotary")).train()
    ids = torch.randint(0, V, (B, T))
    results = []
    for enabled in (False, True):
        model.activation_checkpointing = enabled
        model.zero_grad()
        torch.manual_seed(7)
        loss = model.loss_sum(ids, ids.roll(-1, 1))
        loss.backward()
        results.append((loss.detach(), {name: parameter.grad.clone() for name, parameter in model.named_parameters()}))
    assert torch.equal(results[0][0], results[1][0])
    for name, gradient in results[0][1].items():
        assert torch.equal(gradient, results[1][1][name]), name


@pytest.mark.parametrize("tied", [True, False])
def test_a_larger_vocabulary_leaves_the_old_tokens_as_they_were(
    tiny_config: Callable[..., ModelConfig], random_model: Callable[..., GPTModel], tied: bool, tmp_path: Path
) -> None:
    """Logits of the old entries to the bit; the new ones are the mean, take part in training, and are saved."""
    model = random_model(tiny_config(tie_word_embeddings=tied, vocab_multiple=64))
    vocab, ids = model.config.vocab_size, torch.tensor([[1, 5, 2]])
    before = model(ids)
    model.resize_vocabulary(vocab + 5)
    after = model(ids)
    assert after.shape[-1] == vocab + 5
    torch.testing.assert_close(after[..., :vocab], before, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(after[..., vocab:], before.mean(dim=-1, keepdim=True).expand(-1, -1, 5), rtol=1e-4, atol=1e-4)
    model.loss_sum(torch.tensor([[vocab + 1]]), torch.tensor([[vocab + 2]])).backward()
    assert model.token_embedding.weight.grad[vocab + 1].any()
    model.save_pretrained(tmp_path / "grown")
    torch.testing.assert_close(GPTModel.from_pretrained(tmp_path / "grown")(ids), after)
