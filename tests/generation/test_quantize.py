"""int8 layers against the ones they stand for, and the engine with them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from gpt_kit.config import ModelConfig
from gpt_kit.errors import ConfigError
from gpt_kit.generation import Engine, Request
from gpt_kit.generation.quantize import check_int8, int8_linear
from gpt_kit.model import GPTModel

pytestmark = [
    pytest.mark.skipif("fbgemm" not in torch.backends.quantized.supported_engines, reason="no FBGEMM here"),
]


@pytest.fixture(scope="module")
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture(params=["int8.c", "FBGEMM"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the kernel, where it can be had, and without."""
    if request.param == "FBGEMM":
        monkeypatch.setattr("gpt_kit.generation.engine.int8_kernel", lambda _: None)


@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("with_bias", [True, False])
def test_a_layer_is_near_and_each_row_keeps_its_own_scale(rows: int, with_bias: bool, generator: torch.Generator) -> None:
    """Rows and channels of very different size: each is within a hundredth of its own size, which one scale for all would miss."""
    sizes = 10.0 ** torch.arange(rows)[:, None]
    x = torch.randn(rows, 64, generator=generator) * sizes
    weight = torch.randn(96, 64, generator=generator) * 10.0 ** torch.randint(-2, 3, (96, 1), generator=generator)
    bias = torch.randn(96, generator=generator) if with_bias else None
    expected = F.linear(x, weight, bias)
    found = int8_linear(weight, bias)(x[None])[0]
    typical = weight.norm(dim=1) * x.norm(dim=1, keepdim=True) / 8
    assert ((found - expected).abs() / typical).max() < 0.1
    assert found.shape == expected.shape and found.dtype is torch.float32
    assert not torch.equal(found, expected), "nothing was rounded"


def test_zeros_stay_zeros() -> None:
    weight = torch.zeros(4, 8)
    assert torch.equal(int8_linear(weight, None)(torch.zeros(3, 8)), torch.zeros(3, 4))
    assert torch.equal(int8_linear(weight, torch.ones(4))(torch.randn(1, 8)), torch.ones(1, 4))


@pytest.mark.usefixtures("either_way")
def test_the_engine_writes_nearly_the_same(tiny_config: Callable[..., ModelConfig], random_model: Callable[..., GPTModel]) -> None:
    """Several requests at once; what a text loses is within a hundredth of what it loses in float32."""
    model = random_model(tiny_config(n_embd=63, tie_word_embeddings=False), std=0.1)
    texts = [[1, 2, 3, 4, 5, 6, 7], [9, 8, 7], [30, 20, 10, 0, 5]]

    def scores(int8: bool) -> list[float]:
        engine, found = Engine(model, slots=3, int8=int8), []
        for text in texts:
            engine.submit(Request(prompt=text, max_new_tokens=3, num_rivals=1, score_prompt=True, bias={17: 1e4}))
        while not engine.is_idle:
            for event in engine.step():
                found += [score.log_probability for score in event.prompt_scores[1:]] + [event.log_probability]
        return found

    exact, rounded = scores(False), scores(True)
    assert sum(rounded) == pytest.approx(sum(exact), rel=0.01) and rounded != exact
    assert rounded == pytest.approx(exact, abs=0.1)


@pytest.mark.usefixtures("either_way")
def test_a_model_in_bf16_can_be_written_with(tiny_config: Callable[..., ModelConfig], random_model: Callable[..., GPTModel]) -> None:
    """Two texts at once; scores within what bf16 itself loses, and twice that."""
    model = random_model(tiny_config(), std=0.1)
    expected = model(torch.tensor([[1, 2, 3]]))[0, -1].log_softmax(dim=-1).max().item()
    engine = Engine(model.bfloat16(), slots=2, int8=True)
    numbers = [engine.submit(Request(prompt=text, max_new_tokens=2, num_rivals=1)) for text in ([1, 2, 3], [5])]
    found = {event.request: event.rivals[0][1] for event in engine.step()}
    assert found[numbers[0]] == pytest.approx(expected, abs=0.1) and len(engine.step()) == 2


def test_it_says_when_it_goes_the_slow_way(
    tiny_config: Callable[..., ModelConfig],
    random_model: Callable[..., GPTModel],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = random_model(tiny_config())
    monkeypatch.setattr("gpt_kit.generation.engine.int8_kernel", lambda _: None)
    Engine(model, slots=1)
    assert not caplog.text
    Engine(model, slots=1, int8=True)
    assert "int8 goes without its own kernel, several times slower; `gpt-kit doctor` says what is missing" in caplog.text


def test_where_there_is_no_int8_it_says_so() -> None:
    with pytest.raises(ConfigError, match="int8 needs an x86 CPU with FBGEMM; this is cuda"):
        check_int8(torch.device("cuda"))
