"""int8.c against the same rounding written in torch, with AMX and without."""

from __future__ import annotations

import gc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gpt_kit.config import ModelConfig
from gpt_kit.generation import Engine, Request, Sampling
from gpt_kit.generation.decoder import Decoder, Layer
from gpt_kit.generation.int8_decoder import AVX512, KERNEL, Int8Decoder, int8_kernel
from gpt_kit.generation.native_pass import FLAGS, Part
from gpt_kit.generation.quantize import round_to_int8
from gpt_kit.model import GPTModel
from gpt_kit.native import compiled_c

pytestmark = pytest.mark.skipif(int8_kernel(64) is None, reason="no AVX-512 VNNI here, or no C compiler")

SHAPES: dict[str, dict[str, Any]] = {
    "GPT-2": {},
    "GPT-1": {"norm": "post"},
    "sinusoidal, scaled": {"position_embedding": "sinusoidal", "scale_embeddings": True},
    "rotary": {"position_embedding": "rotary"},
    "heads of 20, no bias": {"n_embd": 60, "qkv_bias": False, "tie_word_embeddings": False},
    "heads of 7, inputs not by 64": {"n_embd": 21, "n_inner": 13},
    "heads of 64": {"n_embd": 192, "n_inner": 0, "vocab_size": 131},
}


@pytest.fixture(params=SHAPES.values(), ids=SHAPES)
def model(request: pytest.FixtureRequest, tiny_config: Callable[..., ModelConfig], random_model: Callable[..., GPTModel]) -> GPTModel:
    return random_model(tiny_config(max_position_embeddings=70, **request.param), std=0.1)


def decoder(model: GPTModel, slots: int = 2) -> Int8Decoder:
    kernel = int8_kernel(model.config.head_width)
    assert kernel is not None
    return Int8Decoder(model, slots, model.config.max_position_embeddings, kernel)


def read(reader: Decoder | Int8Decoder, slot: int, ids: list[int], start: int) -> Tensor:
    return reader.read([Part(slot, ids, start)])


def text(model: GPTModel, length: int = 70, seed: int = 0) -> list[int]:
    ids: list[int] = torch.randint(0, model.config.vocab_size, (length,), generator=torch.Generator().manual_seed(seed)).tolist()
    return ids


def rounded_rows(x: Tensor) -> Tensor:
    """Each row to 256 steps from its smallest value, or 0, to its largest, or 0."""
    low, high = x.amin(-1, keepdim=True).clamp(max=0), x.amax(-1, keepdim=True).clamp(min=0)
    scale = (high - low) / 255
    zero = (-low / scale).round()
    return ((x / scale + zero).round().clamp(0, 255) - zero) * scale


def rounded_linear(weight: Tensor, bias: Tensor | None, width: int, n_head: int) -> Layer:
    """In float32, of the same rounded numbers; what is kept of keys and values is rounded too."""
    whole, scale = round_to_int8(weight)

    def layer(x: Tensor) -> Tensor:
        y = F.linear(rounded_rows(x), whole * scale[:, None], bias)
        if y.shape[-1] != 3 * width:
            return y
        q, *kept = y.view(*y.shape[:-1], 3, n_head, -1).unbind(-3)
        kept = [each.div(step := each.abs().amax(-1, keepdim=True) / 127).round() * step for each in kept]
        return torch.stack([q, *kept], dim=-3).flatten(-3)

    return layer


def apart(a: Tensor, b: Tensor) -> float:
    """In the middle one of all rows, as part of its size."""
    return float(((a - b).norm(dim=-1) / b.norm(dim=-1)).median())


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_it_computes_what_torch_does_with_the_same_rounding(
    shape: dict[str, Any], tiny_config: Callable[..., ModelConfig], random_model: Callable[..., GPTModel]
) -> None:
    """A typical row is the rounded model's to some hundred-thousandth (queries have 16 bits), and not the exact one's.

    In some rows a number stands halfway and falls otherwise, in deeper models in most, for one such number moves many after it. With
    rotary positions keys are rounded when they are turned, which the reference does before.
    """
    model = random_model(tiny_config(max_position_embeddings=70, n_layer=1, **shape), std=0.1)
    config, ids = model.config, text(model)
    same = Decoder(model, 2, 70, partial(rounded_linear, width=config.n_embd, n_head=config.n_head))
    exact, ours = Decoder(model, 2, 70), decoder(model)
    states = [read(each, 1, ids, 0) for each in (ours, same, exact)]
    assert apart(states[0], states[1]) < (3e-3 if config.position_embedding == "rotary" else 3e-5)
    assert 2e-3 < apart(states[0], states[2]) < 3e-2
    logits = [each.logits(states[1]) for each in (ours, same, exact)]
    assert apart(logits[0], logits[1]) < 1e-5
    assert 2e-3 < apart(logits[0], logits[2]) < 3e-2


def test_a_copied_beginning_is_gone_on_from(model: GPTModel) -> None:
    ids = text(model)
    whole, copied = read(decoder(model), 0, ids, 0), decoder(model, slots=3)
    read(copied, 2, ids[:37], 0)
    copied.copy(2, 0, 37)
    read(copied, 2, text(model, seed=2), 0)
    assert torch.equal(read(copied, 0, ids[37:], 37), whole[37:])


def test_sizes_far_apart_and_zeros_stay_finite(tiny_config: Callable[..., ModelConfig], random_model: Callable[..., GPTModel]) -> None:
    model = random_model(tiny_config())
    for scale in (0.0, 1e-30, 1e4):
        with torch.no_grad():
            for parameter in model.blocks.parameters():
                parameter.mul_(scale)
        states = read(decoder(model), 0, text(model, 11), 0)
        assert states.isfinite().all()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter)


def test_a_thousand_tokens_of_equal_weight_do_not_overflow(
    tiny_config: Callable[..., ModelConfig], random_model: Callable[..., GPTModel]
) -> None:
    """The same token again and again, and queries and keys of zero: every place sees the mean of equal values."""
    model = random_model(tiny_config(max_position_embeddings=1200, position_embedding="rotary"))
    with torch.no_grad():
        for block in model.blocks:
            qkv = block.attention.qkv
            qkv.weight[: 2 * model.config.n_embd].zero_()
            qkv.bias[: 2 * model.config.n_embd].zero_()
    states = read(decoder(model), 0, [5] * 1200, 0)
    torch.testing.assert_close(states, states[:1].expand_as(states), rtol=0, atol=0.05)  # states of size 1


def test_a_range_that_ends_between_two_steps_does_not_wrap_around(
    tiny_config: Callable[..., ModelConfig], random_model: Callable[..., GPTModel]
) -> None:
    """From -0.5 to 254.5 in steps of 1: zero stands at step 1, and the largest value would be at step 256 of 255."""
    model = random_model(tiny_config())
    hidden = torch.linspace(-0.5, 254.5, 24)[None]
    expected = hidden @ model.head_weight.detach().T
    torch.testing.assert_close(decoder(model).logits(hidden), expected, rtol=0, atol=float(expected.abs().max()) / 50)


def test_the_engine_writes_the_same_alone_and_among_others(model: GPTModel) -> None:
    """Drawn, with texts that grow out of the context: in int8 too no text depends on those beside it."""
    requests = [Request(prompt=text(model, 3 + 9 * i, seed=i), max_new_tokens=50, sampling=Sampling(), seed=i) for i in range(5)]

    def write(engine: Engine, chosen: list[Request]) -> dict[int, list[int | None]]:
        numbers: dict[int, list[int | None]] = {engine.submit(request): [] for request in chosen}
        while not engine.is_idle:
            for event in engine.step():
                numbers[event.request].append(event.token)
        return numbers

    together = list(write(Engine(model, slots=3, int8=True), requests).values())
    alone = [tokens for request in requests for tokens in write(Engine(model, slots=1, int8=True), [request]).values()]
    assert together == alone


def test_amx_gives_the_same_bits(tiny_config: Callable[..., ModelConfig], random_model: Callable[..., GPTModel]) -> None:
    """As AVX-512, for every number of rows of a tile and some more."""
    if not torch.cpu._is_amx_tile_supported():
        pytest.skip("no AMX here")
    without = compiled_c(KERNEL, *FLAGS, *AVX512)
    assert without is not None and without is not int8_kernel(8)
    model = random_model(tiny_config(n_embd=72, n_inner=200, max_position_embeddings=80, vocab_size=99), std=0.1)
    for length in range(1, 72):
        ids, both = text(model, length), [decoder(model, 1), Int8Decoder(model, 1, 80, without)]
        hidden = [read(each, 0, ids, 0) for each in both]
        assert torch.equal(*hidden)
        assert torch.equal(both[0].logits(hidden[0]), both[1].logits(hidden[0]))


def test_weights_and_cache_lie_on_large_pages(tiny_config: Callable[..., ModelConfig], random_model: Callable[..., GPTModel]) -> None:
    """Most of them: what reaches beyond the first and the last whole page lies on small ones."""
    choice = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if not choice.exists() or "[never]" in choice.read_text():
        pytest.skip("this system has no large pages")

    def on_large_pages() -> int:
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("AnonHugePages")) * 1024

    gc.collect()  # what others held does not go in between
    before = on_large_pages()
    model = random_model(tiny_config(n_embd=512, n_head=8, n_layer=6, max_position_embeddings=512), std=0.02)
    held = decoder(model, slots=8)
    for slot in range(8):
        read(held, slot, text(model, 512), 0)
    weights, cache = 6 * 12 * 512**2, 2 * 6 * 8 * 512 * 512
    assert on_large_pages() - before > 0.6 * (weights + cache)
