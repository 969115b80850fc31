"""What is computed again in the backward pass is what was computed before, and is not kept."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from gpt_kit.config import ModelConfig
from gpt_kit.model import GPTModel, linear, recompute
from gpt_kit.training.memory_probe import peak_bytes_of


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("bf16", [False, True])
def test_gradients_are_the_same_to_the_bit_and_less_is_held(
    tiny_config: Callable[..., ModelConfig], monkeypatch: pytest.MonkeyPatch, norm: str, dropout: float, bf16: bool
) -> None:
    """With dropout too: the second time draws the random numbers of the first, and leaves the random state as it was."""
    shape = {"n_embd": 64, "n_head": 2, "n_inner": 256, "n_layer": 4, "max_position_embeddings": 64}
    model = GPTModel(tiny_config(**shape, norm=norm, attention_dropout=dropout, residual_dropout=dropout))
    ids = torch.randint(0, model.config.vocab_size, (4, 64), generator=torch.Generator().manual_seed(5))
    results, peaks = [], []
    for worth_it in (0, 2**40):
        monkeypatch.setattr(recompute, "WORTH_IT", worth_it)
        monkeypatch.setattr(recompute, "LONG", 0)
        monkeypatch.setattr(linear, "SMALL", 0)
        model.zero_grad()
        torch.manual_seed(7)

        def step() -> None:
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16, cache_enabled=False):
                loss = model.loss_sum(ids, ids)
            loss.backward()
            results.append([loss.detach(), torch.rand(1), *(parameter.grad.clone() for parameter in model.parameters())])

        peaks.append(peak_bytes_of(step))
    assert all(torch.equal(again, kept) for again, kept in zip(*results, strict=True))
    assert peaks[0] < 0.9 * peaks[1]
