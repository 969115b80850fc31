"""The passes in C: float32.c against torch, and both against themselves: alone, together, in parts, on other threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from gpt_kit.config import ModelConfig
from gpt_kit.generation.decoder import KERNEL, Decoder, float32_kernel, plain_linear
from gpt_kit.generation.int8_decoder import Int8Decoder, int8_kernel
from gpt_kit.generation.native_pass import FLAGS, NativePass, Part
from gpt_kit.model import GPTModel
from gpt_kit.native import compiled_c

pytestmark = pytest.mark.skipif(float32_kernel() is None, reason="no C compiler")

SHAPES: dict[str, dict[str, Any]] = {
    "GPT-2": {},
    "GPT-1": {"norm": "post"},
    "sinusoidal, scaled": {"position_embedding": "sinusoidal", "scale_embeddings": True},
    "rotary": {"position_embedding": "rotary"},
    "heads of 20, no bias": {"n_embd": 60, "qkv_bias": False, "tie_word_embeddings": False},
    "heads of 7": {"n_embd": 21, "n_inner": 13},
    "heads of 64": {"n_embd": 192, "n_inner": 0, "vocab_size": 131},
}
AS_ON_OTHERS = "-mno-avx512f"  # a CPU with AVX2 has vectors of half the width
Make = Callable[..., NativePass]


@pytest.fixture(params=SHAPES.values(), ids=SHAPES)
def model(request: pytest.FixtureRequest, tiny_config: Callable[..., ModelConfig], random_model: Callable[..., GPTModel]) -> GPTModel:
    return random_model(tiny_config(max_position_embeddings=70, **request.param), std=0.1)


@pytest.fixture(params=["float32.c", "int8.c"])
def native(request: pytest.FixtureRequest) -> Make:
    def make(model: GPTModel, slots: int = 2) -> NativePass:
        capacity = model.config.max_position_embeddings
        if request.param == "float32.c":
            native = Decoder(model, slots, capacity, plain_linear, float32_kernel())._native
            assert native is not None
            return native
        kernel = int8_kernel(model.config.head_width)
        if kernel is None:
            pytest.skip("no AVX-512 VNNI here")
        return Int8Decoder(model, slots, capacity, kernel)

    return make


def text(model: GPTModel, length: int = 70, seed: int = 0) -> list[int]:
    ids: list[int] = torch.randint(0, model.config.vocab_size, (length,), generator=torch.Generator().manual_seed(seed)).tolist()
    return ids


@pytest.mark.parametrize("flag", ["-march=native", AS_ON_OTHERS])
def test_float32_computes_what_torch_does(model: GPTModel, flag: str) -> None:
    """Prompts and single tokens, and the logits of both; a prompt that torch read is gone on from."""
    kernel = compiled_c(KERNEL, *FLAGS, "-march=native", flag)
    if kernel is None:
        pytest.skip(f"this compiler has no {flag}")
    ids, ours, theirs = text(model), Decoder(model, 2, 70, plain_linear, kernel), Decoder(model, 2, 70, plain_linear)
    for start, end in ((0, 20), (20, 21), (21, 69), (69, 70)):
        hidden, expected = (each.read([Part(1, ids[start:end], start)]) for each in (ours, theirs))
        torch.testing.assert_close(hidden, expected, rtol=0, atol=3e-6 * float(expected.abs().max()))
        logits, expected = (each.logits(hidden) for each in (ours, theirs))
        torch.testing.assert_close(logits, expected, rtol=0, atol=3e-6 * float(expected.abs().max()))
    long = [each.read([Part(0, ids[:68], 0), Part(1, ids[:3], 0)]) for each in (ours, theirs)]
    assert torch.equal(long[0][:68], long[1][:68]), "long prompts go through torch"
    hidden, expected = (each.read([Part(0, [ids[68]], 68)]) for each in (ours, theirs))
    torch.testing.assert_close(hidden, expected, rtol=0, atol=3e-6 * float(expected.abs().max()))


def test_a_text_is_the_same_to_the_bit_however_it_is_read(model: GPTModel, native: Make) -> None:
    """Whole, token by token, in parts of every length up to 17, and beside another text."""
    ids, other = text(model), text(model, seed=1)
    whole = native(model).read([Part(0, ids, 0)])
    split, start, parts = native(model), 0, []
    for length in (*range(1, 12), 4):
        parts.append(split.read([Part(1, ids[start : start + length], start)]))
        start += length
    assert torch.equal(torch.cat(parts), whole)
    beside = native(model)
    for i in range(20):
        assert torch.equal(beside.read([Part(0, [other[i]], i), Part(1, [ids[i]], i)])[1], whole[i])
    assert torch.equal(beside.read([Part(1, [ids[20]], 20), Part(0, [0, 1], 3)])[0], whole[20])
    logits = native(model).logits(whole)
    assert torch.equal(torch.cat([native(model).logits(row[None]) for row in whole[:19]]), logits[:19])


def test_threads_change_nothing(model: GPTModel, native: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpt_kit.generation.native_pass.WORTH_THREADS", 0)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            ours = native(model)
            found.append(ours.logits(ours.read([Part(0, text(model), 0)])))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_more_rows_than_it_takes_at_once(
    tiny_config: Callable[..., ModelConfig], random_model: Callable[..., GPTModel], native: Make
) -> None:
    """A long prompt, and more slots than rows."""
    model = random_model(tiny_config(max_position_embeddings=600))
    ids = text(model, 600)
    whole, parts = native(model).read([Part(0, ids, 0)]), native(model)
    pieces = [parts.read([Part(1, ids[start : start + 100], start)]) for start in range(0, 600, 100)]
    assert torch.equal(torch.cat(pieces), whole)
    logits = parts.logits(whole)
    assert torch.equal(torch.cat([parts.logits(whole[start : start + 100]) for start in range(0, 600, 100)]), logits)
    many = native(model, slots=300)
    states = many.read([Part(slot, [5], 0) for slot in range(300)])
    assert torch.equal(states, states[:1].expand(300, -1))
