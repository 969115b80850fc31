"""How a new model's weights are drawn: N(0, 0.02), biases 0, norms 1; GPT-2's residual projections narrower by sqrt(2 · n_layer)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import pytest
import torch

from gpt_kit.config import ModelConfig
from gpt_kit.model import GPTModel

RESIDUAL = ("attention.projection.weight", "feed_forward.contract.weight")


@pytest.mark.parametrize(("n_layer", "initializer_range", "norm"), [(3, 0.02, "pre"), (8, 0.05, "pre"), (8, 0.02, "post")])
def test_every_parameter_is_drawn_as_published(n_layer: int, initializer_range: float, norm: Literal["pre", "post"]) -> None:
    """Pre-norm as Radford et al. 2019, section 2.3; post-norm as Radford et al. 2018, section 4.1: all matrices alike."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 301, "max_position_embeddings": 97, "n_embd": 96, "n_head": 4, "n_layer": n_layer}
    model = GPTModel(ModelConfig(**sizes, initializer_range=initializer_range, norm=norm, tie_word_embeddings=False))
    seen_residual = 0
    for name, parameter in model.named_parameters():
        values = parameter.detach()
        if name.endswith("bias"):
            assert not values.any(), name
        elif "norm" in name:
            assert (values == 1).all(), name
        else:
            residual = name.endswith(RESIDUAL)
            seen_residual += residual
            expected = initializer_range / math.sqrt(2 * n_layer) if residual and norm == "pre" else initializer_range
            # 5 standard errors of a standard deviation: 5 / sqrt(2 n)
            assert abs(values.std().item() / expected - 1) < 5 / math.sqrt(2 * values.numel()), name
            assert abs(values.mean().item()) < 5 * expected / math.sqrt(values.numel()), name
    assert seen_residual == 2 * n_layer


def test_a_new_model_guesses_evenly_and_depth_does_not_widen_its_stream() -> None:
    """The loss of a fresh model is log V; and 16 layers leave the residual stream about as wide as 2 do."""
    torch.manual_seed(0)
    ids = torch.randint(0, 211, (4, 32))
    widths = {}
    for n_layer in (2, 16):
        model = GPTModel(ModelConfig(vocab_size=211, max_position_embeddings=32, n_embd=64, n_head=4, n_layer=n_layer)).eval()
        with torch.no_grad():
            loss = model.loss_sum(ids, ids.roll(-1, 1)).item() / ids.numel()
            assert loss == pytest.approx(math.log(211), abs=0.1)
            model.final_norm = torch.nn.Identity()
            widths[n_layer] = model.hidden_states(ids).std().item()
    assert widths[16] < 1.5 * widths[2]


def test_the_seed_decides_the_weights() -> None:
    config = ModelConfig(vocab_size=31, max_position_embeddings=7, n_embd=12, n_head=2, n_layer=1)
    models = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        models.append(GPTModel(config).exported_tensors()["token_embedding.weight"])
    assert torch.equal(models[0], models[1])
    assert not torch.equal(models[0], models[2])


def test_without_data_nothing_is_drawn(tiny_config: Callable[..., ModelConfig], monkeypatch: pytest.MonkeyPatch) -> None:
    """On the meta device, where weights will come from a file: `normal_` there makes torch load modules for a second."""
    normal, drawn = torch.Tensor.normal_, []
    monkeypatch.setattr(
        torch.Tensor, "normal_", lambda tensor, *args, **kw: drawn.append(tensor.device.type) or normal(tensor, *args, **kw)
    )
    config = tiny_config()
    expected = {name: parameter.shape for name, parameter in GPTModel(config).named_parameters()}
    assert set(drawn) == {"cpu"}
    with torch.device("meta"):
        empty = GPTModel(config)
    assert set(drawn) == {"cpu"}
    assert {name: parameter.shape for name, parameter in empty.named_parameters()} == expected
    assert all(parameter.is_meta and parameter.requires_grad for parameter in empty.parameters())
