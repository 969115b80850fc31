"""A KV cache gives the logits of the full forward: at every length up to the last position, in any chunks, for ragged batches."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from gpt_kit.config import ModelConfig
from gpt_kit.errors import InputError
from gpt_kit.model import GPTModel, KVCache

B, T = 2, 11  # T is the whole context: the last position is used
ATOL = 1e-5
CHUNKS = [[1] * 11, [11], [4, 7], [1, 10], [10, 1], [3, 1, 5, 2]]
VARIANTS = [(positions, norm) for positions in ("learned", "sinusoidal", "rotary") for norm in ("pre", "post")]


@pytest.fixture(params=VARIANTS, ids="-".join)
def model(request: pytest.FixtureRequest, tiny_config: Callable[..., ModelConfig], random_model: Callable[..., GPTModel]) -> GPTModel:
    positions, norm = request.param
    return random_model(tiny_config(position_embedding=positions, norm=norm))


@pytest.fixture
def ids() -> torch.Tensor:
    return torch.randint(0, 61, (B, T), generator=torch.Generator().manual_seed(6))


@torch.no_grad()
@pytest.mark.parametrize("chunks", CHUNKS, ids=str)
def test_cached_logits_equal_the_full_forward(model: GPTModel, ids: torch.Tensor, chunks: list[int]) -> None:
    cache = KVCache(model.config, B)
    pieces = [model(piece, cache=cache) for piece in ids.split(chunks, dim=1)]
    assert cache.length == T
    torch.testing.assert_close(torch.cat(pieces, dim=1), model(ids), rtol=0, atol=ATOL)


@torch.no_grad()
def test_every_length_equals_its_own_full_forward(model: GPTModel, ids: torch.Tensor) -> None:
    """Not only the longest: after each token the cache's logits are those of a fresh forward over that length."""
    cache = KVCache(model.config, B)
    for length in range(1, T + 1):
        cached = model(ids[:, length - 1 : length], cache=cache)
        torch.testing.assert_close(cached[:, -1], model(ids[:, :length])[:, -1], rtol=0, atol=ATOL)


@torch.no_grad()
@pytest.mark.parametrize("chunks", [[5], [2, 3], [1, 1, 3]], ids=str)
def test_ragged_rows_padded_on_the_left_equal_each_row_alone(model: GPTModel, ids: torch.Tensor, chunks: list[int]) -> None:
    """Rows of 3 and 5 tokens go in padded to 5 (in one piece or several), then grow token by token to the end of the context."""
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    cache = KVCache(model.config, B)
    for piece, part in zip(ids[:, :5].split(chunks, dim=1), mask.split(chunks, dim=1), strict=True):
        logits = model(piece, part, cache=cache)
    for length in range(5, T + 1):
        for row, padding in ((0, 2), (1, 0)):
            alone = model(ids[row : row + 1, padding:length])[0, -1]
            torch.testing.assert_close(logits[row, -1], alone, rtol=0, atol=ATOL)
        if length < T:
            logits = model(ids[:, length : length + 1], cache=cache)


@torch.no_grad()
def test_right_padding_inside_a_chunk_is_never_looked_at(model: GPTModel, ids: torch.Tensor) -> None:
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    cache = KVCache(model.config, B)
    model(ids[:, :5], mask, cache=cache)
    after = model(ids[:, 5:7], cache=cache)
    alone = model(torch.cat((ids[:1, :3], ids[:1, 5:7]), dim=1))[0, -2:]
    torch.testing.assert_close(after[0], alone, rtol=0, atol=ATOL)


def test_a_full_cache_and_a_full_context_are_refused(model: GPTModel, ids: torch.Tensor) -> None:
    small = KVCache(model.config, B, capacity=4)
    model(ids[:, :3], cache=small)
    with pytest.raises(InputError, match=r"holds 4 tokens; 5 are too many"):
        model(ids[:, 3:5], cache=small)
    whole = KVCache(model.config, B)
    model(ids, cache=whole)
    with pytest.raises(InputError, match=r"12 tokens are longer than this model's context of 11"):
        model(ids[:, :1], cache=whole)
