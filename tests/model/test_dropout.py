"""Dropout against what it promises: the rate, the mean, the gradient, and nothing drawn that torch's random state does not decide."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from gpt_kit.config import ModelConfig
from gpt_kit.model import Dropout, GPTModel, drop, dropout
from gpt_kit.training.memory_probe import peak_bytes_of


@pytest.fixture(autouse=True, params=["C", "numpy"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """All holds in both forms."""
    if request.param == "numpy":
        monkeypatch.setattr(dropout, "compiled_c", lambda *_: None)


@pytest.mark.parametrize("p", [0.05, 0.1, 0.5, 0.9])
def test_the_share_of_zeros_is_p_and_the_mean_stays(p: float) -> None:
    """Within five standard deviations, over a million numbers; the kept ones are all the same."""
    torch.manual_seed(1)
    size = 1_000_003  # no multiple of what is drawn at once
    y = drop(torch.ones(size), p)
    zeros = int((y == 0).sum())
    assert abs(zeros - p * size) < 5 * (size * p * (1 - p)) ** 0.5
    assert y.unique().tolist() == pytest.approx([0, 1 / (1 - p)])


def test_neighbours_are_independent() -> None:
    """Of numbers that lie 1 to 8 apart as many are both zero as chance has it: four of them come from one draw."""
    torch.manual_seed(2)
    zero = (drop(torch.ones(1_000_000), 0.3) == 0).double()
    for distance in range(1, 9):
        both = float((zero[:-distance] * zero[distance:]).mean())
        assert abs(both - 0.09) < 5 * (0.09 * 0.91 / 1_000_000) ** 0.5, distance


def test_the_gradient_goes_where_the_numbers_went() -> None:
    torch.manual_seed(3)
    x = torch.randn(7, 11, requires_grad=True)
    y = drop(x, 0.4)
    y.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, (y != 0).float() / 0.6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_every_format_keeps_its_own_and_numbers_that_are_not_there_stay_away(dtype: torch.dtype) -> None:
    """A tensor with gaps between its rows, in each format: kept numbers are x / (1 - p) to its rounding."""
    torch.manual_seed(5)
    x = torch.randn(33, 70, dtype=torch.float64)[:, 3:40].to(dtype)
    y = drop(x, 0.25)
    assert y.dtype == dtype and y.shape == x.shape
    kept = y != 0
    torch.testing.assert_close(y[kept].double(), x[kept].double() / 0.75, rtol=torch.finfo(dtype).eps, atol=0)


def test_what_was_dropped_is_not_remembered() -> None:
    """Of forward and backward over a million numbers only outputs and gradients are held: no mask, in whatever format."""
    x = torch.randn(1_000_000, requires_grad=True)
    assert peak_bytes_of(lambda: drop(drop(x, 0.1), 0.1).sum().backward()) < 2.5 * x.nbytes


def test_torchs_random_state_decides_and_every_call_differs() -> None:
    x = torch.ones(1000)
    torch.manual_seed(4)
    first, second = drop(x, 0.5), drop(x, 0.5)
    torch.manual_seed(4)
    assert torch.equal(drop(x, 0.5), first)
    assert not torch.equal(first, second)


def test_there_is_none_in_evaluation(tiny_config: Callable[..., ModelConfig]) -> None:
    x = torch.randn(3, 5)
    assert Dropout(0.5).eval()(x) is x
    assert drop(x, 0.0) is x
    model = GPTModel(tiny_config(embedding_dropout=0.5, attention_dropout=0.5, residual_dropout=0.5))
    ids = torch.randint(0, 61, (2, 7))
    assert torch.equal(model.eval()(ids), model(ids))
    assert not torch.equal(model.train()(ids), model(ids))
