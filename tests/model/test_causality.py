"""No token sees a later one: changing token t + 1 moves no logit at or before t, whatever the positions and the norm."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gpt_kit.config import ModelConfig
from gpt_kit.model import GPTModel, written_out_attention

B, T = 2, 9
VARIANTS = [(positions, norm) for positions in ("learned", "sinusoidal", "rotary") for norm in ("pre", "post")]


def largest_leak(model: GPTModel) -> float:
    """How far a logit at or before t moves, at most, when token t + 1 becomes another, over all t."""
    ids = torch.randint(0, 61, (B, T), generator=torch.Generator().manual_seed(1))
    leak = 0.0
    with torch.no_grad():
        before = model(ids)
        for t in range(T - 1):
            changed = ids.clone()
            changed[:, t + 1] = (changed[:, t + 1] + 7) % 61
            after = model(changed)
            leak = max(leak, (after - before)[:, : t + 1].abs().max().item())
            assert (after - before)[:, t + 1].abs().max() > 1e-3, "the change itself must be felt, or this shows nothing"
    return leak


@pytest.fixture(params=VARIANTS, ids="-".join)
def model(request: pytest.FixtureRequest, tiny_config: Callable[..., ModelConfig], random_model: Callable[..., GPTModel]) -> GPTModel:
    positions, norm = request.param
    return random_model(tiny_config(position_embedding=positions, norm=norm))


def test_no_logit_depends_on_a_later_token(model: GPTModel) -> None:
    assert largest_leak(model) <= 1e-6
    for block in model.blocks:
        block.attention.attend = written_out_attention
    assert largest_leak(model) <= 1e-6


def test_control_attention_that_looks_ahead_would_be_noticed(model: GPTModel) -> None:
    def looks_ahead(q: Tensor, k: Tensor, v: Tensor, *_: object) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, is_causal=False)

    model.blocks[1].attention.attend = looks_ahead
    assert largest_leak(model) > 1e-3


def test_positions_matter(model: GPTModel) -> None:
    """The same ids in another order give the last token other logits: positions are not lost on the way."""
    ids = torch.tensor([[3, 14, 15, 9, 26]])
    with torch.no_grad():
        assert (model(ids)[:, -1] - model(ids[:, [1, 0, 3, 2, 4]])[:, -1]).abs().max() > 1e-3
