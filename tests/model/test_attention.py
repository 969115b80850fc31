"""Fused attention computes the written-out formula, with and without masks, forwards and backwards."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from gpt_kit.config import ModelConfig
from gpt_kit.model import GPTModel, blocked_attention, fused_attention, written_out_attention
from gpt_kit.model.mask import positions_from_mask, positions_in_documents, visible_keys

B, H, T, S, D = 2, 3, 5, 9, 4


def qkv(num_queries: int, num_keys: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    q = torch.randn(B, H, num_queries, D, generator=generator, requires_grad=True)
    k, v = (torch.randn(B, H, num_keys, D, generator=generator, requires_grad=True) for _ in range(2))
    return q, k, v


@pytest.mark.parametrize(
    ("num_queries", "num_keys", "padding", "documents"),
    [
        (S, S, None, None),  # plain causal
        (1, S, None, None),  # one new token over a cache
        (S, S, [0, 3], None),  # left padding
        (T, S, [2, 0], None),  # several new tokens over a padded cache
        (S, S, None, [[0, 0, 1, 1, 1, 2, 2, 2, 2], [4, 4, 4, 4, 4, 4, 4, 5, 6]]),  # packed documents
        (S, S, [9, 0], None),  # a row of nothing but padding
    ],
)
def test_fused_blocked_and_written_out_agree_in_value_and_gradients(
    num_queries: int, num_keys: int, padding: list[int] | None, documents: list[list[int]] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpt_kit.model.attention.QUERIES_PER_BLOCK", 2)  # so that borders fall inside
    visible = None
    if padding is not None or documents is not None:
        key_mask = torch.arange(num_keys)[None] >= torch.tensor(padding or [0, 0])[:, None]
        visible = visible_keys(num_queries, key_mask, None if documents is None else torch.tensor(documents))
        assert visible.shape == (B, 1, num_queries, num_keys)
    weights = torch.randn(B, H, num_queries, D, generator=torch.Generator().manual_seed(8))
    results = []
    for attend in (fused_attention, blocked_attention, written_out_attention):
        q, k, v = qkv(num_queries, num_keys)
        mixed = attend(q, k, v, visible, 0.0)
        (mixed * weights).sum().backward()
        results.append((mixed, q.grad, k.grad, v.grad))
    for fused, blocked, written in zip(*results, strict=True):
        assert fused.isfinite().all() and blocked.isfinite().all()
        torch.testing.assert_close(fused, written, rtol=0, atol=1e-5)
        torch.testing.assert_close(blocked, written, rtol=0, atol=1e-5)


def test_attention_dropout_drops_its_share_of_the_weights_and_keeps_the_mean() -> None:
    """Values of 1: each output is the sum of its kept weights / (1 - 0.3), so 1 on average, and never all exactly 1."""
    torch.manual_seed(0)
    q, k, _ = (torch.randn(1024, H, S, D) for _ in range(3))
    for attend, dtype in ((fused_attention, torch.float32), (fused_attention, torch.bfloat16), (blocked_attention, torch.float32)):
        mixed = attend(q.to(dtype), k.to(dtype), torch.ones(1024, H, S, D, dtype=dtype), None, 0.3).float()
        assert abs(mixed.mean() - 1) < 0.012
        assert (mixed[:, :, 0] == 0).float().mean() == pytest.approx(0.3, abs=0.05)


def test_bf16_attention_is_close_and_stays_bf16() -> None:
    q, k, v = (tensor.detach() for tensor in qkv(S, S))
    exact = written_out_attention(q, k, v, None, 0.0)
    for autocast in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            rounded = fused_attention(q.bfloat16(), k.bfloat16(), v.bfloat16(), None, 0.0)
        assert rounded.dtype == torch.bfloat16
        torch.testing.assert_close(rounded.float(), exact, rtol=0, atol=0.04)


def test_written_out_attention_is_the_formula() -> None:
    """One head by hand: softmax(Q Kᵀ / √D) V over the keys at or before each query."""
    q, k, v = (tensor.detach() for tensor in qkv(T, T))
    mixed = written_out_attention(q, k, v, None, 0.0)
    for t in range(T):
        scores = (k[1, 2, : t + 1] @ q[1, 2, t]) / D**0.5
        expected = (scores.exp() / scores.exp().sum()) @ v[1, 2, : t + 1]
        torch.testing.assert_close(mixed[1, 2, t], expected, rtol=0, atol=1e-5)


def test_a_whole_model_gives_the_same_either_way(tiny_config: Callable[..., ModelConfig], random_model: Callable[..., GPTModel]) -> None:
    model = random_model(tiny_config())
    ids = torch.randint(0, 61, (2, 8), generator=torch.Generator().manual_seed(4))
    mask = torch.tensor([[0, 0, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0, 0, 0]])
    with torch.no_grad():
        fused = [model(ids), model(ids, mask)]
        for block in model.blocks:
            block.attention.attend = written_out_attention
        written = [model(ids), model(ids, mask)]
    for left, right in zip(fused, written, strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=1e-5)


def test_attention_dropout_acts_in_training_only(tiny_config: Callable[..., ModelConfig], random_model: Callable[..., GPTModel]) -> None:
    model = random_model(tiny_config(attention_dropout=0.5))
    ids = torch.arange(9)[None]
    with torch.no_grad():
        assert torch.equal(model(ids), model(ids))
        model.train()
        assert not torch.equal(model(ids), model(ids))


def test_a_query_sees_what_it_should_and_nothing_else() -> None:
    """Drawn by hand: three keys of padding on the left, then documents 0 and 1; a query always sees itself."""
    key_mask = torch.tensor([[False, False, True, True, True]])
    visible = visible_keys(5, key_mask, torch.tensor([[0, 0, 0, 0, 1]]))[0, 0]
    expected = ["x....", ".x...", "..x..", "..xx.", "....x"]
    assert ["".join("x" if seen else "." for seen in row) for row in visible.tolist()] == expected


def test_positions_count_real_tokens_and_begin_anew_in_documents() -> None:
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 0, 0], [0, 0, 0, 0, 0]], dtype=torch.bool)
    assert positions_from_mask(mask).tolist() == [[0, 0, 0, 1, 2], [0, 1, 2, 2, 2], [0, 0, 0, 0, 0]]
    documents = torch.tensor([[0, 0, 1, 1, 1], [7, 8, 8, 7, 7]])
    assert positions_in_documents(documents).tolist() == [[0, 1, 0, 1, 2], [0, 0, 1, 0, 1]]
